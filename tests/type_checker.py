"""The checker of types and shapes in the tests: beartype, an integer being a float too."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
