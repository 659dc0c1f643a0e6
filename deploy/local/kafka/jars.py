"""Fetches Apache Kafka's jars from Maven into the user's cache, for all clones."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from deploy.local.child_process import ChildError
from deploy.local.output import say

VERSION: Final = "4.1.0"
OLDEST_JAVA: Final = 17
DOWNLOAD_TIMEOUT_S: Final = 300.0
POM: Final = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>videowindow</groupId>
  <artifactId>development-kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


def kafka_jars() -> Path:
    """Return the folder of the jars, fetched if they are not cached; ChildError says why that is impossible."""
    _check_java()
    cached = _cache() / f"kafka-{VERSION}-{hashlib.sha256(POM.encode()).hexdigest()[:8]}"
    if not cached.is_dir():
        _fetch(cached)
    return cached


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "video-window"


def _check_java() -> None:
    if not shutil.which("java"):
        raise ChildError("java is not installed")
    told = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    if not version or int(version[1]) < OLDEST_JAVA:
        raise ChildError(f"java is older than {OLDEST_JAVA}")


def _fetch(target: Path) -> None:
    """Fill the cache in one step, so that no other run sees it half full."""
    if not shutil.which("mvn"):
        raise ChildError("mvn is not installed")
    say(f"  Fetching Apache Kafka {VERSION} with Maven, once")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=target.parent) as scratch:
        (Path(scratch) / "pom.xml").write_text(POM, encoding="utf-8")
        _run_maven(Path(scratch))
        try:
            (Path(scratch) / "libs").rename(target)
        except OSError:
            if not target.is_dir():  # else another run was first
                raise


def _run_maven(folder: Path) -> None:
    goal = ["dependency:copy-dependencies", "-DoutputDirectory=libs", "-DincludeScope=runtime"]
    try:
        done = subprocess.run(
            ["mvn", "-q", "-B", *goal],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=DOWNLOAD_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise ChildError("mvn did not fetch Apache Kafka in time") from None
    if done.returncode:
        reason = next((line for line in done.stdout.splitlines() if "ERROR" in line), "mvn failed")
        raise ChildError(f"mvn could not fetch Apache Kafka: {reason[:200]}")
