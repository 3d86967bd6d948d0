"""The roster, version 1: what a tenant's fleet is to be. Typed fields and what each of them may hold.

Rules that look at several fields at once are in roster_checks; reading, with line numbers, is in roster_file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mosaic_framework.fields import Argument, Folder, Line, Name, StrictModel, Text, Variable, Word

DEFAULT_FLOOR = ("orchestrator", "enhancer")
DEFAULT_CLASS = "worker"
AGENT_LIMIT = 500


def _persona(value: object) -> object:
    if isinstance(value, bool | str):
        return value
    raise ValueError("must be true, false or a text")


def _forget(value: object) -> None:
    """Take whatever an old file says, and keep nothing of it."""
    del value


def _one(value: object) -> object:
    if type(value) is int and value == 1:  # neither true nor 1.0, which Python takes for equal
        return value
    raise ValueError("must be 1: this program reads rosters of version 1")


class Tmux(StrictModel):
    """The tmux server that the seats live on. No socket name: the user's default server, and no -L anywhere."""

    socket_name: Name | None = None
    holder_session: Name = "_holder"


class Defaults(StrictModel):
    """What holds for every agent that does not say otherwise."""

    working_directory: Folder = "~/src"


class RuntimeOverride(StrictModel):
    """What this fleet wants different in a runtime."""

    reset_command: Line | None = None


class MatrixRoom(StrictModel):
    """A room on a Matrix server. The token comes from MATRIX_ACCESS_TOKEN."""

    homeserver_url: Line
    user_id: Line
    room_id: Line


class DiscordChannel(StrictModel):
    """A channel in Discord. The token comes from DISCORD_BOT_TOKEN."""

    channel_id: Line


class TelegramChat(StrictModel):
    """A chat in Telegram. The token comes from TELEGRAM_BOT_TOKEN."""

    chat_id: Line


class SlackChannel(StrictModel):
    """A channel in Slack. The tokens come from SLACK_BOT_TOKEN and SLACK_APP_TOKEN."""

    channel_id: Line


class Connector(StrictModel):
    """Where people talk to the fleet from outside. Holds addresses only; tokens come from the environment."""

    kind: Literal["tmux", "discord", "matrix", "telegram", "slack"]
    discord: DiscordChannel | None = None
    matrix: MatrixRoom | None = None
    telegram: TelegramChat | None = None
    slack: SlackChannel | None = None


class Agent(StrictModel):
    """One seat."""

    name: Name = Field(description="once in a roster; a tmux session is called by it, with '_' for '.'")
    runtime: Name = Field(description="the program in the seat: one of the runtime manifests")
    class_: Name = Field(default=DEFAULT_CLASS, alias="class", description="the role contract it works under")
    alias: Line | None = Field(default=None, description="a friendly name, for people")
    host: Name | None = Field(
        default=None, description="the host that runs it; absent: the one that applies the roster"
    )
    socket: Name | None = Field(default=None, description="a tmux socket of its own; absent: tmux.socket_name")
    working_directory: Folder | None = Field(default=None, description="absent: defaults.working_directory")
    model_hint: Word | None = Field(default=None, description="handed to the runtime's model flag as it is")
    account: Word | None = Field(default=None, description="which account of the provider it spends")
    persistent_persona: Annotated[bool | Text, BeforeValidator(_persona)] = Field(
        default=False, description="keeps its persona between tasks; a text is the persona"
    )
    reset_between_tasks: bool = Field(default=False, description="starts each task with an empty context")
    lifecycle: Literal["always", "on-demand"] = Field(default="always", description="on-demand: started when asked for")
    reports_to: Name | None = Field(default=None, description="the agent, or the class, that it answers to")
    kickstart_template: Text | None = Field(
        default=None, description="the first message of each run; {name}, {class}, {mission} and {card} are filled in"
    )
    unattended: bool = Field(default=False, description="asks nobody before it acts")
    args: list[Argument] = Field(default_factory=list, max_length=64, description="appended to the runtime's own")
    command: list[Argument] | None = Field(
        default=None, min_length=1, max_length=64, description="replaces program and arguments"
    )
    channels: list[Word] = Field(default_factory=list, max_length=64, description="the connector's channels it reads")
    env: dict[Variable, Argument] = Field(default_factory=dict, max_length=128, description="added to its environment")
    labels: dict[Name, Word] = Field(default_factory=dict, max_length=32, description="words of yours, to select by")
    ssh: Annotated[Any, BeforeValidator(_forget)] = Field(
        default=None, exclude=True, deprecated=True, description="read for old files only: the mesh needs no ssh"
    )


class Roster(StrictModel):
    """A tenant's fleet."""

    version: Annotated[Literal[1], BeforeValidator(_one)] = Field(description="of this format")
    transport: Literal["tmux"] = Field(description="what carries the seats' terminals")
    tenant: Name = "default"
    profile: Name | None = Field(default=None, description="the profile that it came from")
    floor: list[Name] | None = Field(default=None, description="the classes that must always be staffed")
    tmux: Tmux = Field(default_factory=Tmux)
    defaults: Defaults = Field(default_factory=Defaults)
    runtimes: dict[Name, RuntimeOverride] = Field(default_factory=dict)
    connector: Connector | None = None
    agents: list[Agent] = Field(min_length=1, max_length=AGENT_LIMIT)

    @property
    def named_tenant(self) -> str:
        """The tenant that the file names; empty when it names none, and is for that of whoever applies it."""
        return self.tenant if "tenant" in self.model_fields_set else ""

    def agent(self, name: str) -> Agent | None:
        """Return the agent of that name, or None."""
        return next((agent for agent in self.agents if agent.name == name), None)

    def floor_classes(self) -> tuple[str, ...]:
        """Return the classes that must always be staffed."""
        return DEFAULT_FLOOR if self.floor is None else tuple(self.floor)

    def as_written(self) -> dict[str, Any]:
        """Return the roster as plain data in snake_case: what somebody set, be it the default or not."""
        return self.model_dump(by_alias=True, exclude_none=True, exclude_unset=True, mode="json")

    def normalised(self) -> dict[str, Any]:
        """Return the roster as plain data in snake_case, without what is only a default: equal rosters, equal data."""
        return self.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True, mode="json") | {
            "version": self.version,
            "transport": self.transport,
        }
