"""Readers and writers of the field's files: DICOM, volumes, XML, CSV, JSON.

They repair what can be repaired soundly and refuse everything else by name.
"""
