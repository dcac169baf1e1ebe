"""Keys: which ones sign, what others verify by, and that a wrong one is refused without being shown."""

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mediaflow.limiter.signing import configured_signer, new_key, signer
from mediaflow.settings import SettingsError


def pem(key, form=PrivateFormat.PKCS8, encryption=None):
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


P256 = pem(ec.generate_private_key(ec.SECP256R1()))
ED25519 = pem(ed25519.Ed25519PrivateKey.generate())


@pytest.mark.parametrize(("key", "algorithm"), [(ED25519, "EdDSA"), (P256, "ES256"), (new_key(), "EdDSA")])
def test_anyone_verifies_a_token_by_the_public_key(key, algorithm):
    ours = signer(key)
    token = ours.token({"sub": "user"})
    public = ours.jwk()
    assert "d" not in public, "the private half stays here"
    assert (public["alg"], public["use"], public["kid"]) == (algorithm, "sig", ours.key_id)
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": ours.key_id, "typ": "JWT"}
    assert jwt.decode(token, jwt.PyJWK(public), algorithms=[algorithm]) == {"sub": "user"}
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(
            token, jwt.PyJWK(signer(new_key() if key != P256 else P256_OTHER).jwk()), algorithms=[algorithm]
        )


P256_OTHER = pem(ec.generate_private_key(ec.SECP256R1()))


def test_replicas_with_one_key_agree_on_its_name_and_on_stream_ids():
    one, other = signer(P256), signer(P256)
    assert (one.key_id, one.id_secret) == (other.key_id, other.id_secret)
    assert signer(ED25519).id_secret != one.id_secret
    assert signer(ED25519).key_id != one.key_id


def test_the_form_in_which_a_key_is_written_makes_no_difference():
    key = ec.generate_private_key(ec.SECP256R1())
    assert signer(pem(key)).id_secret == signer(pem(key, PrivateFormat.TraditionalOpenSSL)).id_secret


def test_a_key_is_given_as_text_or_as_a_file(tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(P256)
    text = P256.decode()
    for given in (text, text.replace("\n", "\\n"), "\n" + text, str(path)):
        found = configured_signer(given)
        assert found is not None
        assert found.key_id == signer(P256).key_id
    assert configured_signer("") is None


PUBLIC = ed25519.Ed25519PrivateKey.generate().public_key()
REFUSED = {
    "rsa": pem(rsa.generate_private_key(65537, 2048)).decode(),
    "another curve": pem(ec.generate_private_key(ec.SECP384R1())).decode(),
    "encrypted": pem(
        ec.generate_private_key(ec.SECP256R1()), encryption=BestAvailableEncryption(b"x")
    ).decode(),
    "public": PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    "cut": P256.decode()[:80],
    "no such file": "/nowhere/key.pem",
}


@pytest.mark.parametrize("about", REFUSED)
def test_a_key_of_no_use_is_refused_in_one_line(about):
    with pytest.raises(
        SettingsError, match=r"^token_key: .*give an Ed25519 or P-256 private key as PEM$"
    ) as error:
        configured_signer(REFUSED[about])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [60, 5000])
def test_a_key_without_its_frame_is_not_shown_as_the_name_of_a_file(length):
    with pytest.raises(SettingsError) as error:
        configured_signer("MC4CAQAwBQYDK2Vw" * (length // 16))
    assert "MC4CAQ" not in str(error.value)
