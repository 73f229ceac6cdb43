"""The signature of one file of an update: made, or checked, over the very bytes that devices will get."""

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from broker_bridge.ota import signing
from broker_bridge.ota.errors import CreateFailed
from broker_bridge.ota.signing import Profile
from broker_bridge.ota.update import ByProfile, Given, Signature, UpdateFile
from broker_bridge.storage.objects import (
    BucketMissing,
    ObjectChanged,
    ObjectForbidden,
    ObjectMissing,
    ObjectStore,
)


def signature(
    file: UpdateFile, store: ObjectStore, profiles: Mapping[str, Profile], check: Callable[[], None]
) -> Signature | None:
    """What the job's document is to have; None where the operator wants none.

    In any case the object is looked at: that its bytes are still those of the update. CreateFailed;
    StoreUnavailable; what `check` raises, which is called again and again while the object is read.
    """
    with _failing(file):
        match file.signing:
            case ByProfile(profile=name, certificate_path=path):
                if name not in profiles:
                    raise failed(
                        file, "InvalidRequestException", f"the setting `signing` has no profile {name!r}"
                    )
                signer = profiles[name].signer
                hashed = signing.digest(store, file.object, file.size, signing.hash_name(signer.key), check)
                text = base64.b64encode(signer.sign(hashed)).decode()
                return Signature(key=signer.key, text=text, certificate_path=path)
            case Given(signature=given, public_key=str(key)):
                hashed = signing.digest(store, file.object, file.size, signing.hash_name(given.key), check)
                if not signing.verifies(key, given.key, hashed, given.text):
                    raise failed(
                        file,
                        "InvalidRequestException",
                        "its signature is not one of this object by the certificate given with it",
                    )
                return given
        store.check(file.object)
        return None if file.signing is None else file.signing.signature


def failed(file: UpdateFile, code: str, message: str) -> CreateFailed:
    """The failure of an update for one of its files."""
    return CreateFailed(code, f"file {file.file_id} ({file.path}): {message}")


@contextmanager
def _failing(file: UpdateFile) -> Iterator[None]:
    """What a store says that will not pass."""
    try:
        yield
    except ObjectChanged:
        raise failed(
            file, "ETagMismatch", "the object was overwritten after the update was created"
        ) from None
    except (BucketMissing, ObjectMissing):
        raise failed(file, "ResourceNotFoundException", "the object is not there any more") from None
    except ObjectForbidden:
        raise failed(file, "UnauthorizedException", "the service may not read the object") from None
