"""LIDC-IDRI: chest CT as DICOM with the XML of up to four readers."""
