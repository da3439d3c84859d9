"""Readers and writers of the field's files: DICOM, volumes, XML and CSV.

They repair what can be repaired soundly and refuse everything else by name.
"""
