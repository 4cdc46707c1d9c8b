"""Where the backend `sparse_dot_mkl` finds MKL; its products are tested with those of the others."""

import ctypes

import pytest

from sparsearch.hardware.kernels.sparse_dot_mkl import open_mkl


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """What is loaded, with an installed package mkl as pip leaves it."""
    site, names = tmp_path / "lib" / "python" / "site-packages", []
    (site / "mkl-1.0.dist-info").mkdir(parents=True)
    (site / "mkl-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mkl\nVersion: 1.0\n")
    (site / "mkl-1.0.dist-info" / "RECORD").write_text("../../libmkl_rt.so.3,,\n../../libmkl_core.so.3,,\n")
    for name in ("libmkl_rt.so.3", "libmkl_core.so.3"):
        (tmp_path / "lib" / name).touch()
    monkeypatch.syspath_prepend(site)
    monkeypatch.delenv("MKL_RT", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", names.append)
    return names


def test_the_library_of_the_package_mkl_is_loaded(opened, tmp_path):
    open_mkl()
    (path,) = opened
    assert (tmp_path / "lib" / "libmkl_rt.so.3").samefile(path)


def test_a_library_that_the_user_names_goes_first(opened, monkeypatch):
    monkeypatch.setenv("MKL_RT", "/opt/libmkl_rt.so")
    open_mkl()
    assert opened == []
