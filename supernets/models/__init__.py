"""Ready-made models, one a file: plain PyTorch that imports nothing of ours but `supernets.structure`.

Each file ends in `build(arch, **sizes)`. What the data decides (classes, channels, resolution, vocabulary) is a
keyword, so `functools.partial(mobilenet.build, num_classes=10)` is the `build` of a supernet, importable and picklable.
What the architecture decides is read by attribute alone (`arch.width`, `arch.stages[0].kernel`): any object with those
will do.
"""
