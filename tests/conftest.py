"""Settings of the whole test run: shapes are checked at every call, one thread, no network."""

import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from jaxtyping import install_import_hook

# Every function of the package checks the shapes and types that its signature promises.
install_import_hook("fmawsss", "type_checker.check")

torch.set_num_threads(1)
