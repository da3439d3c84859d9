"""Readers and writers: DICOM, volumes, pictures, videos, XML, CSV, JSON.

They repair what can be repaired soundly and refuse everything else by name.
"""
