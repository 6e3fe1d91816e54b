"""TLS contexts of ours check the chain and the name; `ca` replaces what is trusted, and nothing else."""

from __future__ import annotations

import ssl

import pytest
import trustme

from creditsd.brokers import tls


@pytest.mark.parametrize("ca", ["", trustme.CA().cert_pem.bytes().decode()], ids=["the system's", "ca"])
def test_the_chain_and_the_name_are_checked(ca: str) -> None:
    made = tls.context("sink log", ca, None)
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert made.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert len(made.get_ca_certs()) == 1 or not ca
