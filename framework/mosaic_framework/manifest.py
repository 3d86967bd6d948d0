"""What a runtime manifest says: how a program is started, typed into and understood. Data only; no I/O.

A manifest is `framework/runtimes/<name>.yaml`, or a user's own `$MOSAIC_HOME/fleet/runtimes.local/<name>.yaml`.
Patterns are Python regular expressions, searched with re.MULTILINE in what `capture-pane -p` prints.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from mosaic_framework.fields import Argument, Line, Name, Pattern, StrictModel, Text, Variable

StrongestStep = Literal["submitted", "accepted", "turn_ended"]


class Setting(StrictModel):
    """One value in a JSON file: the keys that lead to it from the top, marks allowed, and what it is to be.

    `at_home`: also for a seat whose working directory is the user's home itself.
    """

    keys: list[Argument] = Field(min_length=1)
    value: JsonValue
    at_home: bool = True


class UserFile(StrictModel):
    """A JSON file of the user's in which questions are settled that no session-private layer can settle.

    `file`: below `$HOME`, or below the folder that the variable `folder_from` names. `lock`: what its own program adds
    to the file's name for the folder that is there while it writes.
    """

    file: Line
    folder_from: Variable | None = None
    lock: Line | None = None
    settings: list[Setting] = Field(min_length=1)


class Unattended(StrictModel):
    """What makes the program ask nobody. `always`: it never asks, flag or not.

    `env_at_home`: in the user's home itself. `files`: more for the session's files. `user_files`: the last resort.
    """

    always: bool = False
    args: list[Argument] = Field(default_factory=list)
    env: dict[Variable, Argument] = Field(default_factory=dict)
    env_as_root: dict[Variable, Argument] = Field(default_factory=dict)
    env_at_home: dict[Variable, Argument] = Field(default_factory=dict)
    files: dict[Name, dict[str, JsonValue]] = Field(default_factory=dict)
    user_files: list[UserFile] = Field(default_factory=list)


class SystemPrompt(StrictModel):
    """How a contract reaches the program.

    `argument`: `args`, with `{text}` replaced by the contract.
    `toml-argument`: the same, with `{text}` replaced by the contract as a TOML string.
    `file`: the contract is in a file; `{file}` in `args` and `env` is its path, `{file_json}` that as a JSON string.
    `file_args`: in the place of `args` when the contract is too long for an argument.
    """

    kind: Literal["argument", "toml-argument", "file"]
    args: list[Argument] = Field(default_factory=list)
    file_args: list[Argument] = Field(default_factory=list)
    env: dict[Variable, Argument] = Field(default_factory=dict)


class Sign(StrictModel):
    """Something seen in a pane: on its visible screen, or in its title."""

    where: Literal["screen", "title"] = "screen"
    pattern: Pattern


class Signs(StrictModel):
    """What the screen and the title say of the state. Hooks, where there are any, say it better."""

    ready: list[Sign] = Field(default_factory=list)
    working: list[Sign] = Field(default_factory=list)
    waiting: list[Sign] = Field(default_factory=list)
    ready_within_seconds: int = 60
    deaf_seconds: float = 0.0
    """so long after its start it shows a composer and takes no Enter"""


class Composer(StrictModel):
    """Where typed text shows before it is sent.

    `line`: at the cursor of a shell; evidence of typing is that the cursor moved past the text.
    `box`: an input box; `glyph` finds its first line, `end` what stands after its last one, `placeholder` what a long
    paste collapses to, `empty` the whole of what it shows when nothing is in it. `faint_is_ghost`: faint text in it is
    a suggestion of the program, not a draft. `transcript`: what is sent shows above it. Without `end` or a second
    glyph nobody can tell a draft in it.
    `draft`: a person's draft is held (nothing is typed until it is gone), or saved by `stash_keys` and restored by
    `unstash_keys`; without the latter the program restores it by itself once the message has gone.
    """

    kind: Literal["line", "box"]
    glyph: Pattern | None = None
    placeholder: Pattern | None = None
    empty: Pattern | None = None
    end: Pattern | None = None
    faint_is_ghost: bool = False
    transcript: bool = True
    draft: Literal["hold", "restore"] = "hold"
    stash_keys: list[Line] = Field(default_factory=list)
    unstash_keys: list[Line] = Field(default_factory=list)


class Paste(StrictModel):
    """What survives a bracketed paste. Zero: no limit is known.

    Over `exact_lines` or `exact_characters` the program wraps the text in `mark`: the user did not write it. What a
    person wrote is typed in pieces of at most `piece_lines` and `piece_characters`. `normalises`: what it changes.
    `wrapper`: what stands before such a text in the prompt that the program tells of. `settle_ms`: so long after a
    paste it takes Enter for a part of it.
    """

    exact_lines: int = 0
    exact_characters: int = 0
    mark: Line | None = None
    piece_lines: int = 0
    piece_characters: int = 0
    wrapper: Pattern | None = None
    settle_ms: int = 0
    normalises: list[Literal["tabs", "outer-space", "trailing-space"]] = Field(default_factory=list)


class Hazard(StrictModel):
    """Text that does something else than arrive. `where`: at the start, as the whole, or at the end of the text."""

    where: Literal["start", "whole", "end"]
    pattern: Pattern
    effect: Line


class Reset(StrictModel):
    """What empties the program's context while it runs.

    `clear`, `new`: the commands of these names that do so, absent where the program has none or where it does something
    else. `keeps_seed`: what it was seeded with at its launch holds afterwards too; else a reset is a restart. `fresh`:
    signs of an empty conversation, as `signs`.
    """

    clear: Line | None = None
    new: Line | None = None
    keeps_seed: bool = False
    fresh: list[Sign] = Field(default_factory=list)


class Install(StrictModel):
    """Where the program comes from. `package` is a name in npm; absent for what the system brings."""

    package: Line | None = None
    command: Line | None = None
    update: list[Argument] = Field(default_factory=list)


class Version(StrictModel):
    """How to ask for the version, and those on which the rules here were seen."""

    args: list[Argument] = Field(default_factory=lambda: ["--version"])
    stream: Literal["stdout", "stderr"] = "stdout"
    measured: list[Line] = Field(default_factory=list)


class Meaning(StrEnum):
    """What an event of a runtime's hooks means for its seat."""

    SESSION_STARTED = "session_started"
    PROMPT_ACCEPTED = "prompt_accepted"
    TURN_STARTED = "turn_started"
    ACTIVITY = "activity"
    """work goes on; and a question that was open has been answered"""
    ASKED = "asked"
    """it asks for permission, or another question: text typed now would answer it"""
    ANSWERED = "answered"
    TURN_ENDED = "turn_ended"
    TURN_FAILED = "turn_failed"
    """the turn broke off on an error of the model"""
    MODEL_CHANGED = "model_changed"
    SESSION_ENDED = "session_ended"


class FieldIs(StrictModel):
    """A field of an event's payload, and a value of it."""

    field: Line
    value: Line


class Event(StrictModel):
    """One event. All but `means` name fields of its payload.

    `failed`: with this value the event means `turn_failed`. `handover`: what the hook may print to make the program go
    on with another text, `{text_json}` being that text as a JSON string.
    """

    means: Annotated[Meaning, Field(strict=False)]
    prompt: Line | None = None
    session: Line | None = None
    model: Line | None = None
    detail: list[Line] = Field(default_factory=list)
    failed: FieldIs | None = None
    handover: Line | None = None


class NativeSignals(StrictModel):
    """How the program is made to tell what it does, for this session alone, and what its events mean.

    `files` are in framework/runtimes/signals; the host puts them into a folder of its own, `{folder}` in `args` and
    `env`. So are `settings`, which are joined into the session's file of the same name (Manifest.files); in them
    `__REPORT__` is the reporter's command line. `args` come before the roster's own. `toml_hooks`: event
    to the seconds that its hook may take, for hooks that go in as `-c` overrides in TOML, trusted by their hash for
    this session alone (Codex).
    """

    files: list[Line] = Field(default_factory=list)
    settings: list[Line] = Field(default_factory=list)
    toml_hooks: dict[Name, int] = Field(default_factory=dict)
    args: list[Argument] = Field(default_factory=list)
    env: dict[Variable, Argument] = Field(default_factory=dict)
    events: dict[Line, Event] = Field(default_factory=dict)
    letterbox: bool = False
    """the program takes messages without keystrokes too: `files` listen at $MOSAIC_LETTERBOX"""
    hang_seconds: Annotated[int, Field(ge=10, le=86_400)] = 600
    """a turn that has begun, in which neither an event nor the screen tells of anything for so long, is stuck"""


class Manifest(StrictModel):
    """One runtime. `files`: JSON files written for each session into a private folder, which `{session}` names."""

    name: Name
    title: Line
    program: Line
    program_from: Variable | None = None
    programs: list[Line] = Field(default_factory=list)
    args: list[Argument] = Field(default_factory=list)
    env: dict[Variable, Argument] = Field(default_factory=dict)
    files: dict[Name, dict[str, JsonValue]] = Field(default_factory=dict)
    model_args: list[Argument] = Field(default_factory=list)
    first_prompt_args: list[Argument] = Field(default_factory=list)
    continue_args: list[Argument] = Field(default_factory=list)
    resume_args: list[Argument] = Field(default_factory=list)
    unattended: Unattended = Field(default_factory=Unattended)
    system_prompt: SystemPrompt | None = None
    process: Line | None = None
    alternate_screen: bool = False
    preamble: bool = True
    strongest_step: StrongestStep = "submitted"
    reset_command: Line | None = None
    reset: Reset = Field(default_factory=Reset)
    leave_command: Line | None = None
    clear_key: Line | None = None
    interrupt_keys: list[Line] = Field(default_factory=list)
    while_working: Literal["queues", "steers"] = "queues"
    signs: Signs = Field(default_factory=Signs)
    signals: NativeSignals = Field(default_factory=NativeSignals)
    composer: Composer
    paste: Paste = Field(default_factory=Paste)
    hazards: list[Hazard] = Field(default_factory=list)
    version: Version = Field(default_factory=Version)
    install: Install = Field(default_factory=Install)
    notes: Text | None = None

    def as_json(self) -> str:
        """Return the manifest as one line of JSON, defaults written out: the form a host receives."""
        return self.model_dump_json(exclude_none=True, exclude={"notes"})

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Return what `as_json` wrote, maybe in a newer version: what this one does not know is left out.

        Raises pydantic.ValidationError.
        """
        return cls.model_validate_json(text, extra="ignore")
