"""What is said: words and their pronunciations, a small grammar, keywords, and styles of speaking.

The pronunciations are those of the CMU Pronouncing Dictionary (its first for each word, with stress digits).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

DETERMINERS = {"THE": "DH AH0", "MY": "M AY1", "HER": "HH ER1", "THIS": "DH IH1 S", "THEIR": "DH EH1 R"}
ARTICLES = {"A": "AH0", "AN": "AE1 N"}
PEOPLE = {
    "MAN": "M AE1 N",
    "WOMAN": "W UH1 M AH0 N",
    "BOY": "B OY1",
    "GIRL": "G ER1 L",
    "TEACHER": "T IY1 CH ER0",
    "FARMER": "F AA1 R M ER0",
    "DOCTOR": "D AA1 K T ER0",
    "SAILOR": "S EY1 L ER0",
    "CHILD": "CH AY1 L D",
    "KING": "K IH1 NG",
    "MOTHER": "M AH1 DH ER0",
    "FRIEND": "F R EH1 N D",
}
MANNERS = {
    "OLD": "OW1 L D",
    "YOUNG": "Y AH1 NG",
    "TALL": "T AO1 L",
    "QUIET": "K W AY1 AH0 T",
    "HAPPY": "HH AE1 P IY0",
    "TIRED": "T AY1 ER0 D",
}
MOTIONS = {
    "WALKED": "W AO1 K T",
    "RAN": "R AE1 N",
    "WENT": "W EH1 N T",
    "CAME": "K EY1 M",
}
DIRECTIONS = {"TO": "T UW1", "FROM": "F R AH1 M", "THROUGH": "TH R UW1"}
PLACES = {
    "RIVER": "R IH1 V ER0",
    "GARDEN": "G AA1 R D AH0 N",
    "HOUSE": "HH AW1 S",
    "MARKET": "M AA1 R K AH0 T",
    "CHURCH": "CH ER1 CH",
    "BRIDGE": "B R IH1 JH",
    "FOREST": "F AO1 R AH0 S T",
    "VILLAGE": "V IH1 L AH0 JH",
    "SCHOOL": "S K UW1 L",
}
DEEDS = {
    "SAW": "S AO1",
    "FOUND": "F AW1 N D",
    "BOUGHT": "B AA1 T",
    "CARRIED": "K AE1 R IY0 D",
    "BROKE": "B R OW1 K",
    "LOST": "L AO1 S T",
    "PAINTED": "P EY1 N T IH0 D",
    "MEASURED": "M EH1 ZH ER0 D",
}
LOOKS = {
    "RED": "R EH1 D",
    "BLUE": "B L UW1",
    "SMALL": "S M AO1 L",
    "HEAVY": "HH EH1 V IY0",
    "WHITE": "W AY1 T",
    "YELLOW": "Y EH1 L OW0",
}
THINGS = {
    "BOOK": "B UH1 K",
    "BREAD": "B R EH1 D",
    "BOAT": "B OW1 T",
    "CHAIR": "CH EH1 R",
    "LETTER": "L EH1 T ER0",
    "KNIFE": "N AY1 F",
    "APPLE": "AE1 P AH0 L",
    "BASKET": "B AE1 S K AH0 T",
    "COAT": "K OW1 T",
    "LAMP": "L AE1 M P",
    "TREASURE": "T R EH1 ZH ER0",
}
ENDING_WORDS = {
    "ALONE": "AH0 L OW1 N",
    "BEFORE": "B IH0 F AO1 R",
    "DINNER": "D IH1 N ER0",
    "AFTER": "AE1 F T ER0",
    "STORM": "S T AO1 R M",
    "IN": "IH0 N",
    "MORNING": "M AO1 R N IH0 NG",
    "LAST": "L AE1 S T",
    "NIGHT": "N AY1 T",
    "WITH": "W IH1 DH",
    "JOY": "JH OY1",
    "AT": "AE1 T",
    "NOON": "N UW1 N",
    "EVERY": "EH1 V ER0 IY0",
}
ENDINGS = (
    "",
    "ALONE",
    "BEFORE DINNER",
    "AFTER THE STORM",
    "IN THE MORNING",
    "LAST NIGHT",
    "EVERY MORNING",
    "WITH JOY",
    "AT NOON",
)

# Word -> phones, the whole vocabulary of the sentences.
LEXICON: dict[str, str] = {
    **DETERMINERS,
    **ARTICLES,
    **PEOPLE,
    **MANNERS,
    **MOTIONS,
    **DIRECTIONS,
    **PLACES,
    **DEEDS,
    **LOOKS,
    **THINGS,
    **ENDING_WORDS,
}


def sentence(random: Random) -> str:
    """Draw one sentence of the grammar, upper case, 5 to 11 words: somebody goes somewhere or does something."""
    subject = _noun_phrase(random, MANNERS, PEOPLE)
    if random.random() < 0.5:
        place = _noun_phrase(random, MANNERS if random.random() < 0.3 else LOOKS, PLACES)
        predicate = f"{random.choice(list(MOTIONS))} {random.choice(list(DIRECTIONS))} {place}"
    else:
        predicate = f"{random.choice(list(DEEDS))} {_noun_phrase(random, LOOKS, THINGS)}"
    return f"{subject} {predicate} {random.choice(ENDINGS)}".strip()


def _noun_phrase(random: Random, adjectives: dict[str, str], nouns: dict[str, str]) -> str:
    noun = random.choice(list(nouns))
    words = [random.choice(list(adjectives)), noun] if random.random() < 0.5 else [noun]
    determiner = random.choice([*DETERMINERS, "A"])
    if determiner == "A" and words[0][0] in "AEIOU":
        determiner = "AN"
    return " ".join([determiner, *words])


@dataclass(frozen=True, kw_only=True)
class Style:
    """One IEMOCAP category made audible. Rate, pitch, range and volume are espeak-ng's, before a speaker's own shift.

    The directions (high arousal: faster, higher, wider, louder; sadness: the reverse) are those of Scherer 2003,
    "Vocal communication of emotion"; the sizes are ours. `affect` is valence, activation and dominance (1 to
    5), and only fills the column IEMOCAP has for them.
    """

    label: str  # as EmoEvaluation files write it
    category: str  # as their evaluators' lines write it
    rate: int
    pitch: int
    range: int
    volume: int
    affect: tuple[float, float, float]


STYLES = (
    Style(label="neu", category="Neutral", rate=165, pitch=48, range=45, volume=40, affect=(3.0, 2.5, 3.0)),
    Style(label="hap", category="Happiness", rate=178, pitch=62, range=75, volume=46, affect=(4.0, 3.5, 3.0)),
    Style(label="exc", category="Excited", rate=194, pitch=70, range=90, volume=52, affect=(4.5, 4.0, 3.5)),
    Style(label="ang", category="Anger", rate=186, pitch=52, range=65, volume=60, affect=(1.5, 4.0, 4.0)),
    Style(label="sad", category="Sadness", rate=136, pitch=38, range=22, volume=28, affect=(2.0, 2.0, 2.0)),
    Style(label="fru", category="Frustration", rate=172, pitch=46, range=55, volume=50, affect=(2.0, 3.5, 3.5)),
    Style(label="xxx", category="Other", rate=155, pitch=55, range=40, volume=36, affect=(3.0, 2.5, 2.5)),
)  # fmt: skip
