"""Imports torch without collecting garbage meanwhile: nothing of what importing makes is garbage.

To be imported before torch, by what usually is the first to need it. It saves a seventh of the time.
"""

import gc

_collecting = gc.isenabled()
gc.disable()
try:
    import torch  # noqa: F401
finally:
    if _collecting:
        gc.enable()
