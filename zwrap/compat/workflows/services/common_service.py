"""The base class of services of python-workflows.

``zocalo.service -s NAME`` runs a subclass in zwrap's own loop (`zwrap.compat.workflows.hosting`).
`CommonService.start` runs it without zwrap, on any transport, as tests do.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from zwrap.compat.workflows.basics import Disconnected, Error
from zwrap.compat.workflows.logging import CallbackHandler, get_exception_source
from zwrap.message.content import Status as Status

POLL_S = 2
"""Time without work after which the loop looks around, in seconds."""


class Priority(enum.IntEnum):
    """Order in which the loop of `CommonService.start` does what waits."""

    COMMAND = 1
    TIMER = 2
    TRANSPORT = 3
    IDLE = 4


class Commands:
    """Commands that come through the pipe of `CommonService.connect`."""

    SHUTDOWN = "shutdown"
    LIVENESS_CHECK = "liveness_check"


class CommonService:
    """Base of services: a subclass overrides `initializing`, and `in_shutdown` where it must."""

    _service_name = "unnamed service"
    """Name for people."""
    _logger_name = "workflows.service"
    """Name of the logger `log`."""
    log_verbosity = logging.INFO
    """Level of the logger `log` under `start`."""
    start_kwargs: dict[Any, Any] = {}  # noqa: RUF012 - of the class, as in python-workflows
    """Keyword arguments of `start`."""

    SERVICE_STATUS_NONE = Status.NONE.intval
    SERVICE_STATUS_TEARDOWN = Status.TEARDOWN.intval
    SERVICE_STATUS_NEW = Status.NEW.intval
    SERVICE_STATUS_STARTING = Status.STARTING.intval
    SERVICE_STATUS_IDLE = Status.IDLE.intval
    SERVICE_STATUS_TIMER = Status.TIMER.intval
    SERVICE_STATUS_PROCESSING = Status.PROCESSING.intval
    SERVICE_STATUS_SHUTDOWN = Status.SHUTDOWN.intval
    SERVICE_STATUS_END = Status.END.intval
    SERVICE_STATUS_ERROR = Status.ERROR.intval
    human_readable_state = {each.intval: each.description for each in Status}  # noqa: RUF012

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take `environment`, a mapping with the site configuration under ``config``."""
        del args
        self._environment: Any = kwargs.get("environment", {})
        self._transport: Any = None
        self._idle_callback: Callable[[], object] | None = None
        self._idle_time: float | None = None
        self.log = logging.getLogger(self._logger_name)
        self.__pipe_frontend: Any = None
        self.__pipe_commands: Any = None
        self.__callbacks: dict[object, Callable[[Any], object]] = {}
        self.__log_extensions: list[tuple[str, object]] = []
        self.__queue: Any = queue.PriorityQueue()
        self.__service_status: int | None = None
        self.__shutdown = False
        self.__set_status(Status.NEW)

    def initializing(self) -> None:
        """Subscribe to what the service handles; called once, before the first message."""

    def in_shutdown(self) -> None:
        """Release what the service holds; called once, at the end, when it can still send."""

    @property
    def config(self) -> Any:
        """The site configuration; None without one."""
        return self._environment.get("config")

    @property
    def transport(self) -> Any:
        """The transport, which is set once."""
        return self._transport

    @transport.setter
    def transport(self, value: Any) -> None:
        if self._transport:
            raise AttributeError("This service has a transport already.")
        self._transport = value

    def start_transport(self) -> None:
        """Connect the transport, if there is one, and let its callbacks run in the loop."""
        if not self.transport:
            self.log.debug("This service has no transport to connect")
            return
        if self._environment.get("metrics"):
            raise Error("zwrap offers no metrics of a service: leave out 'metrics'.")
        if not self.transport.connect():
            raise RuntimeError("The transport of the service cannot be connected.")
        numbers = itertools.count()

        def queued(callback: Callable[..., object]) -> Callable[..., object]:
            return lambda header, message: self.__queue.put(
                (Priority.TRANSPORT, next(numbers), (callback, header, message))
            )

        self.transport.subscription_callback_set_intercept(queued)

    def stop_transport(self) -> None:
        """Disconnect the transport, if there is one."""
        if self.transport:
            self.transport.disconnect()

    def connect(self, frontend: Any = None, commands: Any = None) -> None:
        """Take pipes: `frontend` for what the service tells, `commands` for what it is told."""
        if frontend:
            self.__pipe_frontend = frontend
            self.__tell({"band": "status_update", "statuscode": self.__service_status})
        if commands:
            self.__pipe_commands = commands

    @contextlib.contextmanager
    def extend_log(self, field: str, value: object) -> Iterator[None]:
        """Add a field to everything that is logged inside the context.

        An exception that leaves it has the value as attribute ``workflows_log_`` and the field.
        """
        self.__log_extensions.append((field, value))
        try:
            yield
        except Exception as error:
            setattr(error, f"workflows_log_{field}", value)
            raise
        finally:
            self.__log_extensions.remove((field, value))

    def _register(self, message_band: object, callback: Callable[[Any], object]) -> None:
        """Let a function handle what comes through the pipe on a band."""
        self.__callbacks[message_band] = callback

    def _register_idle(self, idle_time: float, callback: Callable[[], object]) -> None:
        """Let a function be called each time that no work came for `idle_time` seconds."""
        self._idle_callback = callback
        self._idle_time = idle_time

    def get_name(self) -> str:
        """Return the name for people."""
        return self._service_name

    def _set_name(self, name: str) -> None:
        """Change the name for people."""
        self._service_name = name
        self.__tell({"band": "set_name", "name": name})

    def _request_termination(self) -> None:
        """Ask whoever runs the service to end it."""
        self.__tell({"band": "request_termination"})

    def _shutdown(self) -> None:
        """Let the service end after the work at hand."""
        self.__shutdown = True

    def initialize_logging(self) -> None:
        """Pass what is logged to the pipe, if there is one, and set the level of `log`."""
        root = logging.getLogger()
        for handler in [each for each in root.handlers if isinstance(each, CallbackHandler)]:
            root.removeHandler(handler)  # of an earlier service of this process
        if self.__pipe_frontend:
            root.addHandler(CallbackHandler(self._log_send))
        self.log = logging.getLogger(self._logger_name)
        verbose = self.start_kwargs.get("verbose_log")
        self.log.setLevel(logging.DEBUG if verbose else self.log_verbosity)

    def _log_send(self, logrecord: logging.LogRecord) -> None:
        """Pass a record of the log to the pipe, with the fields of `extend_log`."""
        for field, value in self.__log_extensions:
            setattr(logrecord, field, value)
        self.__tell({"band": "log", "payload": logrecord})

    def start(self, **kwargs: Any) -> None:
        """Run the service until a command ends it; without a pipe for commands end immediately.

        An exception ends it in state ERROR, after `in_shutdown`.
        """
        self.start_kwargs.update(kwargs)
        try:
            self.initialize_logging()
            self.__set_status(Status.STARTING)
            self.start_transport()
            self.initializing()
            self._register("command", self.__obey)
            if self.__pipe_commands is None:
                self.__shutdown = True
            else:
                self.__start_command_queue_listener()
            while not self.__shutdown:
                self.__turn()
        except KeyboardInterrupt:
            self.log.warning("Interrupted; the service ends")
        except Exception as error:
            self.process_uncaught_exception(error)
            self.__set_status(Status.ERROR)
            self.in_shutdown()
            self.stop_transport()
            return
        try:
            self.__set_status(Status.SHUTDOWN)
            self.in_shutdown()
            self.__set_status(Status.END)
            self.stop_transport()
        except Exception as error:
            self.process_uncaught_exception(error)
            self.__set_status(Status.ERROR)

    def process_uncaught_exception(self, e: BaseException) -> None:
        """Log an exception that ends the service, with its place and the fields of `extend_log`."""
        path, file, number, function, line = get_exception_source()
        told = {"pathname": path, "filename": file, "lineno": number, "funcName": function}
        extra = {f"workflows_exc_{key}": value for key, value in {**told, "line": line}.items()}
        prefix = "workflows_log_"
        fields = {key: value for key, value in vars(e).items() if key.startswith(prefix)}
        extra |= {key.removeprefix(prefix): value for key, value in fields.items()}
        self.log.critical("Unhandled service exception: %s", e, exc_info=e, extra=extra)

    def __turn(self) -> None:
        """Do what comes next, or be idle."""
        self.__set_status(Status.IDLE)
        try:
            task = self.__queue.get(True, self._idle_time or POLL_S)
        except queue.Empty:
            task = None
        if self.transport and not self.transport.is_connected():
            raise Disconnected("The connection of the service is lost.")
        if task is None:
            if self._idle_time and self._idle_callback:
                self.__set_status(Status.TIMER)
                self._idle_callback()
            return
        self.__set_status(Status.PROCESSING)
        priority, _, work = task
        if priority == Priority.COMMAND:
            self.__dispatch(work)
        elif priority == Priority.TRANSPORT:
            callback, header, message = work
            callback(header, message)
        else:
            self.log.warning("Work of an unknown kind is dropped: %r", task)

    def __dispatch(self, message: Any) -> None:
        """Pass what came through the pipe to the function of its band."""
        if not message or "band" not in message:
            self.log.warning("A message without band is dropped: %s", message)
        elif message["band"] not in self.__callbacks:
            self.log.warning("A message on an unregistered band is dropped: %s", message)
        else:
            self.__callbacks[message["band"]](message.get("payload"))

    def __obey(self, command: object) -> None:
        """Carry out a command."""
        if command == Commands.SHUTDOWN:
            self.__shutdown = True
        elif command == Commands.LIVENESS_CHECK:
            self.__tell({"band": "liveness_check", "payload": "alive"})

    def __start_command_queue_listener(self) -> None:
        """Start the thread that reads the pipe of commands."""
        listen = self.__command_queue_listener

        class Listener(threading.Thread):
            def run(self) -> None:
                listen()

        listener = Listener()
        listener.daemon = True
        listener.start()

    def __command_queue_listener(self) -> None:
        """Read the pipe of commands until the end; a closed pipe ends the service."""
        for number in itertools.count():
            while not self.__pipe_commands.poll(1):
                if self.__shutdown:
                    return
            try:
                message = self.__pipe_commands.recv()
            except EOFError:
                self.log.error("The pipe of commands was closed; the service ends")
                self.__shutdown = True
                return
            self.__queue.put((Priority.COMMAND, number, message), True, 60)
            if self.__shutdown:
                return

    def __tell(self, what: dict[str, object]) -> None:
        """Put a value into the pipe for what the service tells, if there is one."""
        if self.__pipe_frontend:
            self.__pipe_frontend.send(what)

    def __set_status(self, status: Status) -> None:
        """Change the state, and tell it if it is new."""
        if self.__service_status != status.intval:
            self.__service_status = status.intval
            self.__tell({"band": "status_update", "statuscode": status.intval})
