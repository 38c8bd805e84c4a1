"""Where photos come from: folders, lists, archives, tables and buckets, as streams of `Photo` in a stable order."""

from gendercls.sources.ahead import read_ahead
from gendercls.sources.listing import CHUNK, Listing
from gendercls.sources.photo import MAX_BYTES, Photo, PhotoFile, Source, Unreadable, readable_name
from gendercls.sources.reach import READERS
from gendercls.sources.readers import Readers

__all__ = [
    "CHUNK",
    "MAX_BYTES",
    "READERS",
    "Listing",
    "Photo",
    "PhotoFile",
    "Readers",
    "Source",
    "Unreadable",
    "read_ahead",
    "readable_name",
]
