"""Ready-made models, one per file: plain PyTorch that imports only `supernets.structure` from this project.

Each file ends in `build(arch, **sizes)`. Properties of the data (classes, channels, resolution, vocabulary) are
keywords, so `functools.partial(mobilenet.build, num_classes=10)` is the `build` of a supernet, importable and
picklable. The models read the architecture by attribute only (`arch.width`, `arch.stages[0].kernel`), so any object
with these attributes works.
"""
