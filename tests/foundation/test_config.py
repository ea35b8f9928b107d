from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from neutronflow.foundation.config import load
from neutronflow.foundation.errors import ConfigurationError, SecretMissing


class Oven(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    temperature_k: float = 300.0
    shelves: list[str] = []
    door: bool = False


def write(folder: Path, text: str) -> dict[str, str]:
    path = folder / "settings.toml"
    path.write_text(text)
    return {"NEUTRONFLOW_CONFIG": str(path)}


def test_without_a_file_everything_has_its_default() -> None:
    settings = load({})
    assert settings.section("oven", Oven) == Oven()
    assert settings.port("monitor") == 8080
    assert settings.archive_root == settings.data_dir / "archive"


def test_the_file_sets_and_the_environment_overrides(tmp_path: Path) -> None:
    environ = write(tmp_path, "[core]\nport_offset = 100\n[oven]\ntemperature_k = 5.0\ndoor = true\n")
    environ |= {"NEUTRONFLOW_OVEN__TEMPERATURE_K": "77", "NEUTRONFLOW_OVEN__SHELVES": '["top"]'}
    settings = load(environ)
    assert settings.section("oven", Oven) == Oven(temperature_k=77.0, shelves=["top"], door=True)
    assert settings.port("stomp") == 61713


def test_core_settings_have_short_environment_names(tmp_path: Path) -> None:
    settings = load({"NEUTRONFLOW_DATA_DIR": str(tmp_path), "NEUTRONFLOW_ARCHIVE_ROOT": "/"})
    assert settings.data_dir == tmp_path
    assert settings.archive_root == Path("/")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[oven]\ntemprature_k = 1.0\n", "temprature_k"),
        ("[oven]\ntemperature_k = 'hot'\n", "temperature_k"),
        ("[oven\n", "settings.toml"),
        ("door = true\n", "door"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        load(write(tmp_path, text)).section("oven", Oven)


def test_a_bad_value_in_the_environment_names_the_variable() -> None:
    with pytest.raises(ConfigurationError, match="NEUTRONFLOW_OVEN__DOOR"):
        load({"NEUTRONFLOW_OVEN__DOOR": "ajar"}).section("oven", Oven)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml"):
        load({"NEUTRONFLOW_CONFIG": "nowhere.toml"})


def test_secrets_come_from_the_environment_or_from_files(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "broker-manager").write_text("from the file\n")
    environ = {"NEUTRONFLOW_DATA_DIR": str(tmp_path)}
    assert load(environ).secret("broker-manager") == "from the file"
    environ["NEUTRONFLOW_SECRET_BROKER_MANAGER"] = "from the environment"
    assert load(environ).secret("broker-manager") == "from the environment"
    with pytest.raises(SecretMissing, match="NEUTRONFLOW_SECRET_OTHER"):
        load(environ).secret("other")


def test_an_offset_beyond_all_ports_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="makes 108079 of the port 'monitor'"):
        load({"NEUTRONFLOW_PORT_OFFSET": "99999"}).port("monitor")
