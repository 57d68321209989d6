"""What the design saves, as ratios: `python -m tests.bench`, or `make bench`.

Each benchmark runs two ways of doing the same thing in turn (A B A B ...) in one run on one machine, and prints the
median of the rounds' ratios with the least and the greatest. Above 1, A takes more. The numbers of two machines, of two
runs, or of a busy machine are not to be compared; the ratios may be. pytest collects nothing here.
"""
