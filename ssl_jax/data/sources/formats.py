"""Which files are pictures: those that Pillow opens, and those that it does not.

What a phone or a camera leaves is a picture whether or not it can be read here, and is
told of as one; a file of no known kind is no picture. HEIC is read where pillow-heif is
installed. A camera's raw file is refused by its name, even where Pillow opens it: what
it finds in most is a thumbnail.
"""

import importlib
import os

from PIL import Image

_RAW = frozenset(
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mos .mrw .nef .nrw .orf "
    ".pef .raf .rw2 .rwl .sr2 .srf .srw .x3f".split()
)
_HEIF = frozenset(".heic .heics .heif .heifs .hif".split())
_JXL = frozenset((".jxl",))
_IS_RAW = "a camera's raw file: export it as JPEG or PNG"
_IS_HEIF = "HEIC: `pip install pillow-heif`, or save it as JPEG or PNG"
_IS_JXL = "JPEG XL: save it as JPEG or PNG"
# What stands where in a file, whatever it is called: (offset, bytes, what it is).
_SIGNATURES = (
    *((4, b"ftyp" + brand, _IS_HEIF) for brand in (b"heic", b"heix", b"heim", b"heis")),
    *((4, b"ftyp" + brand, _IS_HEIF) for brand in (b"hevc", b"hevx", b"mif1", b"msf1")),
    (4, b"ftypcrx", _IS_RAW),
    (0, b"\xff\x0a", _IS_JXL),
    (4, b"JXL ", _IS_JXL),
    (0, b"FUJIFILMCCD-RAW", _IS_RAW),
    (0, b"FOVb", _IS_RAW),
    *((0, begin, _IS_RAW) for begin in (b"IIRO", b"IIRS", b"MMOR", b"IIU\0")),
)


def suffixes() -> frozenset[str]:
    """Of files that are pictures, in small letters: ".jpg", ".heic". Makes Pillow know
    all formats that it can."""
    Image.init()
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        pass
    opened = {
        suffix
        for suffix, form in Image.registered_extensions().items()
        if form in Image.OPEN
    }
    return frozenset(opened) | _RAW | _HEIF | _JXL


def is_raw(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in _RAW


def unread(path: str) -> str:
    """What a file is that Pillow does not open, and what to do; "" if it is unknown."""
    if is_raw(path):
        return _IS_RAW
    with open(path, "rb") as file:
        begin = file.read(32)
    said = (what for at, sign, what in _SIGNATURES if begin[at:].startswith(sign))
    return next(said, "")
