"""What tests of clients and of listeners share."""

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization as pack


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, cert.pem, key.pem, both.pem, other.pem (another key), locked.pem (with a passphrase),
    none.pem (no certificate)."""
    folder = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    one, other = authority.issue_cert("127.0.0.1"), authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    one.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    one.private_key_pem.write_to_path(folder / "key.pem")
    one.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    other.private_key_pem.write_to_path(folder / "other.pem")
    key = pack.load_pem_private_key(one.private_key_pem.bytes(), None)
    locked = key.private_bytes(pack.Encoding.PEM, pack.PrivateFormat.PKCS8, pack.BestAvailableEncryption(b"passphrase"))
    (folder / "locked.pem").write_bytes(locked)
    (folder / "none.pem").write_text("not a certificate\n")
    return folder
