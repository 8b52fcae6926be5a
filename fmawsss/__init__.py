"""Weakly supervised semantic segmentation with foundation models: tensors in, tensors out.

The files are the steps of the method, in the order in which data flows (sections of METHOD):

    superpixels   1         the record of an image's masks, and the rock-sand-water filter
    prompts       2         prompts around class names, learned or hand-written
    contexts      2, 8      where learned contexts start from
    templates     2, 4      hand-written templates, ranked without ground truth
    cam           3         softmax Grad-CAM
    losses        4         the contrastive loss, the CAM activation loss
    label_losses  4         other losses on image labels
    affinity      5         CAMs spread over patches that attend to each other
    class_distribution 11.2 and over patches that CLIP takes for the same classes
    encoder_affinity 11.3   and over what looks alike to another encoder
    scores        6         CAMs between 0 and 1, and a background to stand against them
    pooling       7         what maps hold under superpixels
    seeding       6, 7      scores, pooled on superpixels, painted as seeds
    scenes        5-7       what the seeds of an image are made of
    seeding_batches 5-7     the same for many images at once
    memory        11.1      seeds once more: superpixels explained by look-alikes in other images
    memory_keys   11.1      what their keys are made of
    memory_search 11.1      the same for many images at once
    memory_index  11.1      and for more superpixels than can be compared
    trust                   what people have corrected, as exact values and as seeds
    choice                  which images to correct next
    agreement               how far an image's seeds agree, without ground truth
    metrics       10        what masks are worth, with ground truth
    schedules     8         learning rates
    resizing      8         images brought to whole patches
    precision               what stays out of half precision
    transfer                tensors brought from a device, all at once
    viz                     pictures of CAMs, seeds and superpixels
    records                 what all rooms hand to one another: images, CAMs, batches

and the folders are what the steps stand on:

    clip          2, 3      the frozen encoder, and the vjp of its last block
    dino          11.3      another frozen encoder, of what looks alike
    sam           1         SAM asked with points, and other sources of superpixels
    text_prompted 11.4      other evidence: models that segment what phrases name
    networks                segmentation networks: what is learned from seeds
    files                   storage, images, tensors, downloads
    tiny                    small models and generated images, to try everything without downloads
"""

from importlib.metadata import version

__version__: str


def __getattr__(name: str) -> str:
    """Look up `__version__`, which pyproject.toml says and installing records."""
    if name == "__version__":
        return version("fmawsss")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
