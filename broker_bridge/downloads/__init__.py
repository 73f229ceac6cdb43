"""Files over HTTP: presigned, expiring URLs in job documents, and serving what they name.

`placeholders` finds in a document what is to become an URL, `resolving` makes the URLs when a device gets the
document. Where objects are in S3, the URL is S3's own and S3 serves it. Where they are in a folder, `links`
signs it, and `app` answers on it, in ranges (`ranges`: RFC 9110, without I/O).
"""
