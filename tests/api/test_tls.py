"""TLS on the API's port: what is served is what the certificate's files hold."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nightshift_api.main import build_config
from nightshift_api.metrics import Metrics
from nightshift_api.settings import Settings
from nightshift_api.tls import keeping_certificate, read_certificate
from tests.api.harness import Api, make_settings
from tests.api.serving import serving


def write_certificate(folder: Path) -> dict[str, Path]:
    """Write a certificate and its key, as a mounted Secret has them; gives the settings."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .sign(key, SHA256())
    )
    cert_file, key_file = folder / "tls.crt", folder / "tls.key"
    cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {"tls_cert_file": cert_file, "tls_key_file": key_file}


async def get_health(port: int, settings: Settings) -> int:
    """Ask as a client that trusts nothing but the certificate, issued for localhost."""
    trusting = ssl.create_default_context(cafile=settings.tls_cert_file)
    async with httpx2.AsyncClient(verify=trusting) as client:
        return (await client.get(f"https://localhost:{port}/healthz")).status_code


def test_without_a_certificate_the_port_speaks_plain_http(api: Api, tmp_path: Path) -> None:
    assert build_config(api.app, make_settings(tmp_path), Metrics()).ssl is None


async def test_with_a_certificate_it_speaks_https(api: Api, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, **write_certificate(tmp_path))
    async with serving(build_config(api.app, settings, Metrics())) as (port, _):
        assert await get_health(port, settings) == 200


async def test_a_renewed_certificate_is_served_without_a_restart(api: Api, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, **write_certificate(tmp_path))
    config = build_config(api.app, settings, Metrics())
    assert config.ssl is not None
    async with serving(config) as (port, _), keeping_certificate(config.ssl, settings):
        assert await get_health(port, settings) == 200
        write_certificate(tmp_path)
        with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await get_health(port, settings)
        read_certificate(config.ssl, settings)
        assert await get_health(port, settings) == 200


async def test_a_certificate_that_cannot_be_read_leaves_the_last_one_in_force(api: Api, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, **write_certificate(tmp_path))
    config = build_config(api.app, settings, Metrics())
    assert config.ssl is not None
    trusted = (tmp_path / "tls.crt").read_bytes()
    (tmp_path / "tls.crt").write_text("half a certif")
    read_certificate(config.ssl, settings)
    (tmp_path / "tls.crt").write_bytes(trusted)
    async with serving(config) as (port, _):
        assert await get_health(port, settings) == 200
