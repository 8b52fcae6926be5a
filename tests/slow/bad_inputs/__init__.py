"""Bad inputs of all kinds, each tried on a small finished project, and a verdict on what happened.

    python -m tests.slow.bad_inputs                     # all of them: a table, and those not good
    python -m tests.slow.bad_inputs config images -k nan   # kinds, and a part of names

A case is good when the program ends with an error of at most two lines that names the file or key
(`names`) and says what is expected or what to do (`tells`), or goes on and says so, and when
everything made before is as it was. To add one, append to `CASES` of the module of its kind:

    BadInput("cut_in_the_middle", infer("cls"), cut("outputs/shapes/cls.ckpt"),
             names=r"cls\\.ckpt", tells=r"delete it|run .*again")

`infer`, `train` and `pipeline` (`project.py`) give the command, run in a copy of the project that
`project.make_project` lists; `prepare` spoils this copy. No two cases may differ by a number alone.
"""
