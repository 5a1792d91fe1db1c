"""SCRAM as the RFCs have it, and bytes of any kind."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.deploy.broker.security.scram import DIGESTS, Refused, ScramExchange, Verifier, plain

NOT_A_PROOF = base64.b64encode(bytes(32)).decode()


def exchange(digest: str, salt: str, nonce: str) -> ScramExchange:
    """With the RFCs' only user."""
    verifier = Verifier.of(digest, "pencil", base64.b64decode(salt), 4096)
    return ScramExchange(digest, {"user": verifier}.__getitem__, nonce)


@pytest.mark.parametrize(
    ("digest", "salt", "messages"),
    [
        (  # RFC 7677, section 3
            "sha256",
            "W22ZaJ0SNY7soEsUEjb6gQ==",
            (
                "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ),
        ),
        (  # RFC 5802, section 5
            "sha1",
            "QSXCR+Q6sek8bf92",
            (
                "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
                "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
                "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ),
        ),
    ],
)
def test_the_rfcs_examples(digest: str, salt: str, messages: tuple[str, ...]) -> None:
    first, challenge, final, verdict = messages
    nonce = challenge.partition(",")[0].removeprefix("r=" + first.rpartition("r=")[2])
    scram = exchange(digest, salt, nonce)
    assert scram.step(first.encode()) == challenge.encode()
    assert not scram.done
    assert scram.step(final.encode()) == verdict.encode()
    assert (scram.done, scram.user) == (True, "user")
    with pytest.raises(Refused, match="after the last"):
        scram.step(final.encode())


FIRST = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
FINAL = f"c=biws,r=rOprNGfwEbeRWgbNEkqO{NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="


@pytest.mark.parametrize(
    ("final", "why"),
    [
        (FINAL.replace("dHzb", "dHzc"), "no user 'user' with that password"),
        (FINAL.replace("c=biws", "c=eSws"), "channel binding"),
        (FINAL.replace("rOpr", "rOps"), "nonce"),
        (FINAL.replace("k0,", "k,"), "nonce"),
        (FINAL.replace("dVQ=", "dV=="), "no user|length|base64"),
        (FINAL.partition(",p=")[0] + ",p=AAAA", "length"),
        (FINAL.partition(",p=")[0], "not a final message"),
        (FINAL + "\n", "not a final message"),
        (FIRST, "not a final message"),
        ("", "not a final message"),
    ],
)
def test_a_proof_is_taken_as_it_must_be_and_once(final: str, why: str) -> None:
    scram = exchange("sha256", "W22ZaJ0SNY7soEsUEjb6gQ==", NONCE)
    scram.step(FIRST.encode())
    with pytest.raises(Refused, match=why):
        scram.step(final.encode())
    with pytest.raises(Refused, match="after the last"):
        scram.step(FINAL.encode())
    assert not scram.done


@pytest.mark.parametrize(
    "first",
    ["", "n,,", "p=tls-unique,,n=user,r=a", "n,,n=,r=a", "n,,n=user,r=", "n,,n=us=er,r=a", "n,a=other,n=user,r=a",
     "x,,n=user,r=a", "n,,n=user,r=a\n", "n,,m=ext,n=user,r=a", "n,,n=user,r=a b"],
)  # fmt: skip
def test_first_messages_that_are_none(first: str) -> None:
    with pytest.raises(Refused):
        exchange("sha256", "W22ZaJ0SNY7soEsUEjb6gQ==", NONCE).step(first.encode())


def test_names_with_commas_and_equals() -> None:
    asked: list[str] = []

    def verifier(name: str) -> Verifier:
        asked.append(name)
        return Verifier.nobodys("sha256", name, b"secret")

    ScramExchange("sha256", verifier).step(b"y,a=a=2Cb=3D,n=a=2Cb=3D,r=abc")
    assert asked == ["a,b="]


def test_nobody_looks_like_somebody() -> None:
    nobody, again = (Verifier.nobodys("sha512", "eve", b"secret") for _ in range(2))
    known = Verifier.of("sha512", "password")
    assert nobody.salt == again.salt, "asking twice tells nothing"
    assert nobody.salt != Verifier.nobodys("sha512", "eva", b"secret").salt
    assert (len(nobody.salt), nobody.iterations) == (len(known.salt), known.iterations)
    assert nobody.stored_key != again.stored_key
    assert not nobody.matches("sha512", "password")
    assert known.matches("sha512", "password")
    assert "stored" not in repr(known)


messages = st.binary(max_size=80) | st.from_regex(
    r"([ny],(a=[a-z=2C]{0,4})?,n=(user|[^,\n]{0,6}),r=[!-+\--~]{0,20}|c=(biws|[A-Za-z0-9+/=]{0,8}),r=\S{0,30},p=\S{0,44})",
    fullmatch=True,
).map(str.encode)


@given(st.sampled_from(sorted(DIGESTS.values())), st.lists(messages, max_size=4))
def test_no_bytes_log_in(digest: str, said: list[bytes]) -> None:
    scram = ScramExchange(digest, lambda name: Verifier.nobodys(digest, name, b"secret"))
    for message in said:
        try:
            scram.step(message)
        except Refused:
            break
    assert not scram.done


@given(messages)
def test_plain_is_two_or_three_parts(message: bytes) -> None:
    try:
        user, password = plain(message)
    except Refused:
        return
    assert user
    assert password
    assert message in (f"\0{user}\0{password}".encode(), f"{user}\0{user}\0{password}".encode())


@pytest.mark.parametrize("message", [b"", b"\0", b"\0a\0", b"\0\0b", b"x\0a\0b", b"\0a\0b\0c", b"\0a\0\xff", b"a\0b"])
def test_plain_messages_that_are_none(message: bytes) -> None:
    with pytest.raises(Refused):
        plain(message)
    assert plain(b"\0a\0b") == plain(b"a\0a\0b") == ("a", "b")
