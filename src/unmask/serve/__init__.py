"""The HTTP service: one process, one network, one decoding loop shared by all requests.

settings      limits and addresses
engine        the thread that decodes: a bounded queue, continuous batching, cancellation
schemas       the bodies of requests and answers
requested     from the body of a request to a decode
events        server-sent events of a decode
completions   OpenAI's ``/v1/completions``
app           the routes
service       the parts that routes share
guards        keys, body sizes, slow clients
failures      errors, as callers see them
meters        Prometheus metrics
page_file     the page at ``/``
server        the Uvicorn process
"""
