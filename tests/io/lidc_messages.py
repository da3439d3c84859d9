"""Small LIDC messages for the tests of the XML reader and the clustering."""

from collections.abc import Sequence

from medzoo.io import lidc_types

Points = Sequence[tuple[int, int]]


def roi(points: Points, sop: str = '1.1', z: float = 0, hole=False) -> str:
  edges = ''.join(
    f'<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>\n'
    for x, y in points
  )
  return (
    f'<roi><imageZposition>{z} </imageZposition>\n'
    f'<imageSOP_UID>{sop}</imageSOP_UID>'
    f'<inclusion>{"FALSE" if hole else "TRUE"}</inclusion>{edges}</roi>'
  )


def nodule(*rois: str, rated: bool = True) -> str:
  ratings = ''.join(
    f'<{name}>{i % 5 + 1}</{name}>'
    for i, name in enumerate(lidc_types.CHARACTERISTICS)
  )
  return (
    '<unblindedReadNodule><noduleID>7</noduleID>\n'
    f'<characteristics>{ratings if rated else ""}</characteristics>'
    f'{"".join(rois)}</unblindedReadNodule>'
  )


def non_nodule(x: int, y: int, sop: str = '1.1', z: float = 0) -> str:
  return (
    '<nonNodule><nonNoduleID>n</nonNoduleID>'
    f'<imageZposition>{z}</imageZposition><imageSOP_UID>{sop}</imageSOP_UID>'
    f'<locus><xCoord>{x}</xCoord><yCoord>{y}</yCoord></locus></nonNodule>'
  )


def ct(*sessions: str, series: str = '1.2.3') -> str:
  body = '\n'.join(
    '<readingSession><annotationVersion>3.12</annotationVersion>'
    f'<servicingRadiologistID>9</servicingRadiologistID>{session}'
    '</readingSession>'
    for session in sessions
  )
  return (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader>'
    f'<SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>\n'
    f'{body}</LidcReadMessage>'
  )


FILM = """<?xml version="1.0" encoding="UTF-8"?>
<IdriReadMessage xmlns="http://www.nih.gov/idri"><ResponseHeader>
<CTSeriesInstanceUid>1.2</CTSeriesInstanceUid>
<SeriesInstanceUID>1.5</SeriesInstanceUID></ResponseHeader>
<CXRreadingSession><unblindedRead><noduleID>1</noduleID><characteristics>
<confidence>2</confidence><subtlety>4</subtlety></characteristics>
<roi><imageSOP_UID>1.5.1</imageSOP_UID>
<edgeMap><xCoord>2000</xCoord><yCoord>11</yCoord></edgeMap></roi>
</unblindedRead></CXRreadingSession><CXRreadingSession/></IdriReadMessage>"""
