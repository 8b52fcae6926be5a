"""Kill runs at any moment, let them go on, and compare all that they leave with undisturbed runs.

    python -m tests.slow.kills --kills 200

A story is a few commands in a folder of their own. Each trial tells it in a fresh folder, strikes
it with SIGKILL several times (at a moment drawn at random, or at the n-th event: a file that is
written and not yet in its place, one that has just come there, a line that is half written), then
lets it run to its end. Everything it left must be what the undisturbed run left: products,
checkpoints, pictures, journals, scores, records; and nothing besides.
"""
