"""Identifiers of phantoms: valid, repeatable, and nobody else's."""

import uuid

_NAMESPACE = uuid.UUID('6d65647a-6f6f-5068-616e-746f6d734354')


def uid(*parts: int | str) -> str:
  """Returns the DICOM UID of something, under the root 2.25 of UUIDs.

  Args:
    *parts: what tells it from everything else.
  """
  name = '/'.join(str(part) for part in parts)
  return f'2.25.{uuid.uuid5(_NAMESPACE, name).int}'


def image(series_uid: str, index: int) -> str:
  """Returns the SOPInstanceUID of a slice, by its index in the volume."""
  return uid(series_uid, 'image', index)
