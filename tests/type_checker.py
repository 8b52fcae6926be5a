"""The checker of types and shapes in the tests: beartype, an integer being a float as everywhere in
Python.
"""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
