"""A small synthetic corpus for the five tasks, spoken by espeak-ng and laid out as the official trees.

It lets a stranger try everything in minutes without a licence or a download; what it measures is whether superbench
works, never how good an encoder is. `trees.synthesize_corpus` makes it. From the inside out:

- `espeak`: the child process that speaks, alone with the standard library
- `voices`: who speaks, and how one speaker's lines become samples
- `script`: what is said: words, pronunciations, sentences, styles
- `sound`: from what espeak-ng gives to a 16 kHz recording with its own level and noise
- `sizes`: how many speakers, sentences and turns
- `layouts`: which recordings and which text files each official tree has
- `trees`: all of it written to disk, whole or not at all
- `command`: `superbench corpus synthesize`
"""
