"""Every call of the API in one table: the routes and `/openapi.json` are both drawn from it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from nightshift_api.batches import Batches
from nightshift_api.context import Context
from nightshift_api.files import Files
from nightshift_api.models import Models
from nightshift_api.uploads import Uploads
from nightshift_api.wire import (
    BatchObject,
    CompleteUpload,
    CreateBatch,
    CreateFile,
    CreatePart,
    CreateUpload,
    DeletedFile,
    FileObject,
    Idempotent,
    ListBatches,
    ListFiles,
    ListObject,
    ModelList,
    ModelObject,
    Ranged,
    RerunBatch,
    UploadObject,
    UploadPart,
    Wire,
)

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """A call: where it is, who answers it, and what goes in and out.

    Attributes:
        path: below the prefix, with Starlette's path parameters.
        answer: what a 200 holds; None is the bytes of a file, and with a 206 a part of them.
        form_file: the part of the form that is a file.
        needs_body: whether there must be one, where there may be one.
        stores: whether it stores bytes that a client sends, and so is an upload to `admission`.
        errors: statuses that it may answer with besides those that every call may.
    """

    method: str
    path: str
    endpoint: Endpoint
    summary: str
    answer: type[Wire] | None
    query: type[Wire] | None = None
    body: type[Wire] | None = None
    form: type[Wire] | None = None
    form_file: str = "file"
    needs_body: bool = True
    headers: type[Wire] | None = None
    stores: bool = False
    errors: tuple[int, ...] = ()


def build_operations(context: Context) -> list[Operation]:
    """List the calls of contract 3, 4, 6 and 7."""
    files, batches, models, uploads = Files(context), Batches(context), Models(context), Uploads(context)
    return [
        Operation(
            "POST",
            "/files",
            files.create,
            "Upload a file",
            FileObject,
            form=CreateFile,
            stores=True,
            errors=(400, 413, 415),
        ),
        Operation("GET", "/files", files.list, "List files", ListObject[FileObject], query=ListFiles, errors=(400,)),
        Operation("GET", "/files/{file_id}", files.get, "Get a file", FileObject, errors=(404,)),
        Operation("DELETE", "/files/{file_id}", files.delete, "Delete a file", DeletedFile, errors=(404, 409)),
        Operation(
            "GET",
            "/files/{file_id}/content",
            files.content,
            "Download a file",
            None,
            headers=Ranged,
            errors=(404, 416),
        ),
        Operation(
            "POST",
            "/batches",
            batches.create,
            "Create a batch",
            BatchObject,
            body=CreateBatch,
            headers=Idempotent,
            errors=(400, 404, 409, 413),
        ),
        Operation(
            "GET", "/batches", batches.list, "List batches", ListObject[BatchObject], query=ListBatches, errors=(400,)
        ),
        Operation("GET", "/batches/{batch_id}", batches.get, "Get a batch", BatchObject, errors=(404,)),
        Operation(
            "POST", "/batches/{batch_id}/cancel", batches.cancel, "Cancel a batch", BatchObject, errors=(404, 409)
        ),
        Operation(
            "POST",
            "/batches/{batch_id}/rerun",
            batches.rerun,
            "Run the rows of a batch again that have no success",
            BatchObject,
            body=RerunBatch,
            needs_body=False,
            headers=Idempotent,
            errors=(400, 404, 409, 413),
        ),
        Operation(
            "POST", "/batches/{batch_id}/suspend", batches.suspend, "Suspend a batch", BatchObject, errors=(404, 409)
        ),
        Operation(
            "POST", "/batches/{batch_id}/resume", batches.resume, "Resume a batch", BatchObject, errors=(404, 409)
        ),
        Operation(
            "POST",
            "/uploads",
            uploads.create,
            "Create an upload",
            UploadObject,
            body=CreateUpload,
            stores=True,
            errors=(400, 413),
        ),
        Operation(
            "POST",
            "/uploads/{upload_id}/parts",
            uploads.add_part,
            "Add a part to an upload",
            UploadPart,
            form=CreatePart,
            form_file="data",
            stores=True,
            errors=(400, 404, 413, 415),
        ),
        Operation(
            "POST",
            "/uploads/{upload_id}/complete",
            uploads.complete,
            "Complete an upload",
            UploadObject,
            body=CompleteUpload,
            stores=True,
            errors=(400, 404, 413),
        ),
        Operation(
            "POST",
            "/uploads/{upload_id}/cancel",
            uploads.cancel,
            "Cancel an upload",
            UploadObject,
            errors=(400, 404),
        ),
        Operation("GET", "/models", models.list, "List models", ModelList),
        Operation("GET", "/models/{model:path}", models.get, "Get a model", ModelObject, errors=(404,)),
    ]
