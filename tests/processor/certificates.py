"""An authority that nobody trusts yet, and a server's certificate of it."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

DAY = timedelta(days=1)
CA_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's authority")])


class Authority:
    """Writes its own certificate to a file, and makes servers' contexts."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._folder = folder
        self.ca_file = folder / "ca.crt"
        builder = self._begin(CA_NAME, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.ca_file.write_bytes(builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def _begin(self, name: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(CA_NAME, name, key, x509.random_serial_number(), now - DAY, now + DAY)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return builder.add_extension(identifier, critical=False).add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key), critical=False
        )

    def server_context(self, name: str, asked: list[str | None]) -> ssl.SSLContext:
        """Make the context of a server of that name, which notes for whom it was asked."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = self._begin(x509.Name([]), key.public_key()).add_extension(names, critical=True)
        file = self._folder / f"{name}.pem"
        file.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.sni_callback = lambda _socket, asked_name, _context: asked.append(asked_name)
        return context
