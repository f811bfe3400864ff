"""What a file seems to be, by its first bytes, so that a wrong file is named in the error message."""

from __future__ import annotations

HEAD_BYTES = 512
SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (8, b"WEBP", "a WebP picture"),
    (8, b"AVI ", "an AVI video"),
    (4, b"ftyp", "an MP4 video"),
    (0, b"\x1aE\xdf\xa3", "a WebM or Matroska video"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x1f\x8b", "gzip data; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard data; unpack it first"),
    (0, b"BZh", "bzip2 data; unpack it first"),
    (0, b"\xfd7zXZ", "xz data; unpack it first"),
    (257, b"ustar", "a tar archive; unpack it first"),
    (0, b"PK", "a zip archive, perhaps a torch checkpoint; export it first"),
    (0, b"\x80\x02", "a Python pickle, perhaps a torch checkpoint; export it first"),
    (0, b"\x80\x03", "a Python pickle, perhaps a torch checkpoint; export it first"),
    (0, b"\x80\x04", "a Python pickle, perhaps a torch checkpoint; export it first"),
    (0, b"\x80\x05", "a Python pickle, perhaps a torch checkpoint; export it first"),
    (8, b'{"', "a safetensors file, the weights of a checkpoint; export it first"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"PAR1", "a Parquet file, part of a dataset"),
    (0, b"\x89MCAP0\r\n", "a recording (MCAP)"),
    (0, b"ftrt", "a TensorRT plan"),
    (0, b"vtrt", "a TensorRT-RTX plan"),
    (4, b"ORTM", "a model in ONNX Runtime's own format"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"\x7fELF", "a program or a library"),
    (0, b"SQLite format 3", "a SQLite database"),
    (0, b"version https://git-lfs", "a Git LFS pointer; run `git lfs pull`"),
)
"""Offset, bytes at that offset, and the kind of file."""


def seems_to_be(head: bytes) -> str:
    """The kind of a file, for a message, from its first bytes; empty if unknown."""
    if not head:
        return "an empty file"
    for offset, signature, kind in SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return kind
    return _kind_of_text(head)


def _kind_of_text(head: bytes) -> str:
    """The kind of a UTF-8 text, whose last character may be cut; empty for anything else."""
    try:
        text = head[: HEAD_BYTES - 4].decode("utf-8") if len(head) == HEAD_BYTES else head.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) < HEAD_BYTES or error.start < HEAD_BYTES - 8:
            return ""
        text = head[: error.start].decode("utf-8")
    text = text.removeprefix("\ufeff")
    if any(ord(letter) < 0x20 and letter not in "\t\n\r\f\x1b" for letter in text):
        return ""
    start = text.lstrip()[:20].lower()
    if start.startswith(("<!doctype html", "<html")):
        return "an HTML page, perhaps instead of a download"
    return "JSON text" if start.startswith(("{", "[")) else "a text file"
