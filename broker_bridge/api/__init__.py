"""The control plane: AWS's REST wire on one side, plain Python functions on the other.

`app.Api` is the ASGI application and `server.config` how uvicorn runs it. A request goes through
`dispatch` (which service), `routes` (which operation), `parse` and `validate` (its parameters), the
operation's function in a service's own package (`iot`, `jobs_data`), and `serialize`. All of them read
botocore's model of the service.
"""
