"""`megalith serve`: a model behind the HTTP API of OpenAI's clients, and a small page.

The event loop reads and answers requests (Starlette on uvicorn); the engine of `inference` runs in a thread beside it.
These modules need the extra `megalith[serve]`.
"""

from megalith.serving.app import Service
from megalith.serving.server import address_of, bind, run
from megalith.serving.settings import Settings, read_key, served_name

__all__ = ["Service", "Settings", "address_of", "bind", "read_key", "run", "served_name"]
