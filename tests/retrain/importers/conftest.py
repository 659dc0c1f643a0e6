"""A small data set of films."""

from pathlib import Path

import pytest

from tests.retrain.support.imported import NOON


@pytest.fixture
def movie_lens(tmp_path: Path) -> Path:
    folder = tmp_path / "ml" / "ml-latest"
    folder.mkdir(parents=True)
    ratings = [f"1,10,4.5,{NOON}", f"2,10,3.0,{NOON + 86400}", f"1,11,5.0,{NOON - 5}", f"3,12,3.5,{NOON + 9 * 86400}"]
    (folder / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *ratings, ""]), encoding="utf-8")
    films = ['10,"Fan, The (1996)",Thriller|Drama', "11,Nemo,(no genres listed)"]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *films, ""]), encoding="utf-8")
    return folder.parent
