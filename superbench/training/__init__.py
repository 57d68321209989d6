"""Stage 3: fit heads on frozen features, exactly as the protocol says, and pick each one's best step on dev.

All candidates of one run that share an order of batches train together. Everything random derives from (seed, step): a
run killed anywhere and resumed gives the bytes of one never killed.
Shapes: C candidates, S lanes (a seed on a partition, with its own order), B utterances, L layers, T frames, D features,
K classes. An effective batch is what one step of the optimiser sees.
"""
