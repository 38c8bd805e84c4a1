"""Where photos come from: folders, lists, archives, tables and buckets, as streams of `Photo` in a stable order."""

from gendercls.sources.ahead import read_ahead
from gendercls.sources.listing import Listing
from gendercls.sources.photo import MAX_BYTES, Photo, PhotoFile, Source, Unreadable, readable_name
from gendercls.sources.reach import READERS
from gendercls.sources.readers import Readers
from gendercls.sources.shard import CHUNK, Shard, Walk, read_shard

__all__ = [
    "CHUNK",
    "MAX_BYTES",
    "READERS",
    "Listing",
    "Photo",
    "PhotoFile",
    "Readers",
    "Shard",
    "Source",
    "Unreadable",
    "Walk",
    "read_ahead",
    "read_shard",
    "readable_name",
]
