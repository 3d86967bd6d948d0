"""Reading a roster: what a person gets wrong is told at its line, all of it at once, and nothing is a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog
from mosaic_framework.document import FileUnreadable
from mosaic_framework.errors import NotFound
from mosaic_framework.marked import SIZE_LIMIT, Problem
from mosaic_framework.paths import Home
from mosaic_framework.roster_file import (
    RosterInvalid,
    dump_roster,
    dump_roster_json,
    load_roster,
    parse_roster,
    roster_path,
)
from mosaic_framework.roster_model import Roster

HEAD = "version: 1\ntransport: tmux\n"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog(Catalog.open().shipped)


def problems_of(text: str | bytes, catalog: Catalog, source: str = "roster.yaml") -> list[Problem]:
    with pytest.raises(RosterInvalid) as caught:
        parse_roster(text, source=source, catalog=catalog)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in caught.value.problems)
    return caught.value.problems


def agent(fields: str, *, head: str = HEAD) -> str:
    return f"{head}agents:\n  - name: coder0\n    runtime: pi\n    {fields}\n"


def parsed(text: str, catalog: Catalog) -> Roster:
    return parse_roster(text, source="roster.yaml", catalog=catalog).roster


def test_what_is_not_written_has_its_default(catalog: Catalog) -> None:
    roster = parsed(agent("host: elm"), catalog)
    seat = roster.agents[0]
    assert (roster.tenant, roster.tmux.socket_name, roster.tmux.holder_session) == ("default", None, "_holder")
    assert (roster.defaults.working_directory, roster.floor_classes()) == ("~/src", ("orchestrator", "enhancer"))
    assert (seat.class_, seat.lifecycle, seat.unattended, seat.persistent_persona) == ("worker", "always", False, False)


def test_both_key_styles_are_read_and_snake_case_is_written(catalog: Catalog) -> None:
    snake = parsed(agent("working_directory: /srv\n    reset_between_tasks: true"), catalog)
    camel = parsed(agent("workingDirectory: /srv\n    resetBetweenTasks: true"), catalog)
    assert snake == camel
    assert "working_directory: /srv" in dump_roster(camel)


def test_json_is_read_like_yaml_with_tabs_and_pairs_of_surrogates(catalog: Catalog) -> None:
    seat = '{"name": "a", "runtime": "pi", "alias": "\\ud83d\\ude00"}'
    text = f'{{\n\t"version": 1, "transport": "tmux",\n\t"agents": [{seat}]}}'
    for source in ("roster.json", "roster.yaml"):
        assert parse_roster(text, source=source, catalog=catalog).roster.agents[0].alias == "😀"


def test_an_unknown_key_is_told_with_line_key_and_nearest_key(catalog: Catalog) -> None:
    text = agent("workng_directory: /srv")
    assert problems_of(text, catalog) == [
        Problem("roster.yaml", 6, 5, "agents[0].workng_directory", "unknown key", "working_directory")
    ]


def test_every_problem_is_told_at_once_in_the_order_of_the_file(catalog: Catalog) -> None:
    text = (
        "version: 2\ntransport: ssh\ntenat: x\nagents:\n  - name: a\n    runtime: clade\n    class: 7\n  - {name: a}\n"
    )
    found = problems_of(text, catalog)
    assert [(problem.line, problem.key, problem.nearest) for problem in found] == [
        (1, "version", ""),
        (2, "transport", ""),
        (3, "tenat", "tenant"),
        (6, "agents[0].runtime", "claude"),
        (7, "agents[0].class", ""),
        (8, "agents[1].runtime", ""),
        (8, "agents[1].name", ""),
    ]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("unattended: yes", "must be true or false"),
        ("alias: 12", "must be text; put a number, true or false in quotes"),
        ("class:", "must be text, and is empty"),
        ("args: --fast", "must be a list, such as [one, two]"),
        ("command: []", "must not be empty"),
        ("command: ['']", "the program's name is empty"),
        ("lifecycle: on_demand", "must be 'always' or 'on-demand'"),
        ("persistent_persona: [x]", "must be true, false or a text"),
        ("working_directory: src", "must start with '/' or '~': a host has no other place to count from"),
        ("model_hint: --yes", "must not start with '-': a program would take it for an option"),
        ('alias: "a\\nb"', "must be one line, without tabs"),
        ('kickstart_template: "\\e[2J"', "holds a character that is no text: U+001B"),
        (
            'kickstart_template: "Hello {nme}"',
            "there is no placeholder {nme}; there are {name}, {class}, {mission}, {card}; {{nme}} stands for itself",
        ),
        ("env: {A B: c}", "is no name for an environment variable"),
        ("env: {MOSAIC_AGENT_TOKEN: x}", "is set by the host itself"),
        ("env: {PORT: 80}", "must be text; put a number, true or false in quotes"),
        ("<<: {}", "merge keys are not read here; write the keys out"),
        ("host: !!str elm", "tags (!…) are not read here"),
        ("host: elm\n    host: oak", "the key stands twice; first in line 6"),
        ("reports_to: a\n    reportsTo: b", "the key stands twice, as reports_to and reportsTo"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(catalog: Catalog, fields: str, told: str) -> None:
    assert told in [problem.message for problem in problems_of(agent(fields), catalog)]


@pytest.mark.parametrize("version", ["true", "1.0", "'1'", "2", "null", "[1]"])
def test_only_the_number_one_is_a_version(catalog: Catalog, version: str) -> None:
    head = f"version: {version}\ntransport: tmux\n"
    assert [problem.key for problem in problems_of(agent("host: a", head=head), catalog)] == ["version"]


@pytest.mark.parametrize("name", ["../x", "a;b", "-x", ".x", "..", "a b", "a/b", "a:b", "$(id)", "n" * 300, "é"])
def test_a_hostile_name_is_refused_wherever_a_name_stands(catalog: Catalog, name: str) -> None:
    quoted = json.dumps(name)
    text = (
        f"{HEAD}tenant: {quoted}\ntmux: {{socket_name: {quoted}, holder_session: {quoted}}}\n"
        f"agents: [{{name: {quoted}, runtime: pi, class: {quoted}, host: {quoted}, socket: {quoted}}}]\n"
    )
    assert {problem.key for problem in problems_of(text, catalog)} == {
        "tenant",
        "tmux.socket_name",
        "tmux.holder_session",
        "agents[0].name",
        "agents[0].class",
        "agents[0].host",
        "agents[0].socket",
    }


def test_names_that_tmux_would_make_one_session_are_refused(catalog: Catalog) -> None:
    text = f"{HEAD}agents:\n  - {{name: a.b, runtime: pi}}\n  - {{name: a_b, runtime: pi}}\n"
    (problem,) = problems_of(text, catalog)
    assert (problem.line, problem.key) == (5, "agents[1].name")
    assert "'a.b' (line 4)" in problem.message


def test_an_agent_may_not_be_called_like_the_holder_session(catalog: Catalog) -> None:
    for head, name in ((HEAD, "_holder"), (f"{HEAD}tmux: {{holderSession: x.y}}\n", "x_y")):
        (problem,) = problems_of(f"{head}agents: [{{name: {name}, runtime: pi}}]", catalog)
        assert "holds the tmux server" in problem.message


def test_the_users_own_tmux_server_is_not_taken_by_its_name(catalog: Catalog) -> None:
    (problem,) = problems_of(agent("host: a", head=f"{HEAD}tmux: {{socket_name: default}}\n"), catalog)
    assert "leave the key out" in problem.message


def test_an_unknown_runtime_of_the_overrides_is_told(catalog: Catalog) -> None:
    (problem,) = problems_of(agent("host: a", head=f"{HEAD}runtimes: {{claud: {{reset_command: /new}}}}\n"), catalog)
    assert (problem.key, problem.nearest) == ("runtimes.claud", "claude")


def test_a_runtime_that_a_user_dropped_in_is_known(catalog: Catalog, tmp_path: Path) -> None:
    own = Catalog(catalog.shipped, tmp_path)
    (tmp_path / "runtimes.local").mkdir()
    (tmp_path / "runtimes.local" / "aider.yaml").write_text("name: aider")
    text = f"{HEAD}agents: [{{name: a, runtime: aider}}]"
    assert parse_roster(text, source="roster.yaml", catalog=own).roster.agents[0].runtime == "aider"
    assert problems_of(text, catalog)[0].key == "agents[0].runtime"


@pytest.mark.parametrize(
    ("connector", "keys"),
    [
        ("{kind: matrix}", {"connector.matrix"}),
        ("{kind: matrix, matrix: {homeserver_url: h}}", {"connector.matrix.user_id", "connector.matrix.room_id"}),
        ("{kind: discord, discord: {channel_id: 12}}", {"connector.discord.channel_id"}),
        ("{kind: tmux, slack: {channel_id: c}}", {"connector.slack"}),
        ("{kind: irc}", {"connector.kind"}),
    ],
)
def test_a_connector_needs_its_whole_block_and_no_other(catalog: Catalog, connector: str, keys: set[str]) -> None:
    found = problems_of(agent("host: a", head=f"{HEAD}connector: {connector}\n"), catalog)
    assert {problem.key for problem in found} == keys


@pytest.mark.parametrize(
    "block",
    [
        "discord: {channel_id: c, bot_token: hunter2}",
        "discord: {channel_id: MTIzNDU2Nzg5MDEyMzQ1Njc4.hunter.aaaaaaaaaaaaaaaaaaaaaaaaaaaaa2}",
        "discord: {channel_id: c, accessToken: hunter2}",
        "discord: {channel_id: 'https://me:hunter2@example.org'}",
        "password: hunter2",
    ],
)
def test_a_secret_in_the_connector_is_refused_and_not_repeated(catalog: Catalog, block: str) -> None:
    head = f"{HEAD}connector: {{kind: discord, {block}}}\n"
    with pytest.raises(RosterInvalid) as caught:
        parse_roster(agent("host: a", head=head), source="roster.yaml", catalog=catalog)
    told = f"{caught.value.what} {caught.value.why} {caught.value.details} {caught.value.problems}"
    assert "DISCORD_BOT_TOKEN" in told
    assert "hunter" not in told


def test_old_files_and_likely_mistakes_are_warned_about_and_still_load(catalog: Catalog) -> None:
    text = agent("ssh: {host: x}\n    reports_to: led\n    env: {OPENAI_API_KEY: x}", head=f"{HEAD}floor: [lead]\n")
    read = parse_roster(text, source="roster.yaml", catalog=catalog)
    assert [(warning.line, warning.key) for warning in read.warnings] == [
        (3, "floor"),
        (7, "agents[0].ssh"),
        (8, "agents[0].reports_to"),
        (9, "agents[0].env.OPENAI_API_KEY"),
    ]
    assert "ssh" not in dump_roster(read.roster)


def test_an_invalid_roster_makes_an_error_of_four_lines_with_all_problems_in_its_details(catalog: Catalog) -> None:
    text = agent("a1: 1\n    a2: 1\n    a3: 1\n    a4: 1")
    with pytest.raises(RosterInvalid) as caught:
        parse_roster(text, source="roster.yaml", catalog=catalog)
    error = caught.value
    assert error.code == "roster-invalid"
    assert error.what == "roster.yaml is not a valid roster: 4 problems"
    assert error.why.startswith("line 6: agents[0].a1: unknown key; line 7: ")
    assert error.why.endswith("; and 1 more, all told with -o json")
    assert error.next_step == "correct roster.yaml, line 6"
    assert error.details["problems"] == "4"
    assert error.details["problem.4"].startswith("roster.yaml:9:5: agents[0].a4")
    assert "\n" not in error.what + error.why + error.next_step


def test_no_problem_of_a_roster_with_many_is_left_out_of_what_machines_are_told(catalog: Catalog) -> None:
    text = agent("\n    ".join(f"zz{number}: 1" for number in range(60)))
    with pytest.raises(RosterInvalid) as caught:
        parse_roster(text, source="roster.yaml", catalog=catalog)
    assert len([key for key in caught.value.details if key.startswith("problem.")]) == 60


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"   \n# only a comment\n",
        b"\x00\x01\x02",
        b"\xff\xfe\x00a",
        b"\x89PNG\r\n\x1a\n",
        b"just text",
        b"[]",
        b"- a",
        b"agents: [1, null, {}, []]",
        b"agents: {a: b}",
        b"{" * 10_000,
        b"[" * 100_000,
        b"- " * 10_000,
        b"? " * 10_000,
        b"? [a]\n: b",
        b"{[a]: b}",
        b"a: *b",
        b"a: &a [*a]",
        b"&a a: *a\n",
        b"a: 1\n---\nb: 2",
        b"%YAML 9.9\n---\na",
        b"%TAG ! tag:x,2000:\n---\na: !x b",
        b"a: !!python/object/apply:os.system [id]",
        b"a:\n\t- b",
        b"a: b: c",
        b"a: 'unended",
        b'{"version": 1,}',
        b'{"version": 1} x',
        b'{"version": ' + b"9" * 5_000 + b"}",
        b"version: " + b"9" * 5_000,
        b'{"a": "\\ud800"}',
        b'a: "\\ud800"',
        b'a: "\\UFFFFFFFF"',
        b'a: "\\U00110000"',
        b"%YAML " + b"9" * 5_000 + b".1\n---\na",
        "a: \ud800",
        b"x" * (SIZE_LIMIT + 1),
        b"agents:\n" + b"  - {}\n" * 30_000,
    ],
    ids=lambda content: repr(content[:24]),
)
@pytest.mark.parametrize("source", ["roster.yaml", "roster.json"])
def test_rubbish_is_told_and_never_a_traceback(catalog: Catalog, content: bytes | str, source: str) -> None:
    assert problems_of(content, catalog, source)


def test_aliases_are_read_but_a_bomb_of_them_is_refused(catalog: Catalog) -> None:
    shared = f"{HEAD}agents:\n  - {{name: a, runtime: pi, args: &a [x]}}\n  - {{name: b, runtime: pi, args: *a}}\n"
    assert parsed(shared, catalog).agents[1].args == ["x"]
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + level)}: &{chr(98 + level)} [{', '.join([f'*{chr(97 + level)}'] * 10)}]\n" for level in range(9)
    )
    assert "aliases written out" in problems_of(bomb, catalog)[-1].message


def test_many_agents_are_refused_with_the_limit(catalog: Catalog) -> None:
    text = HEAD + "agents:\n" + "".join(f"  - {{name: a{number}, runtime: pi}}\n" for number in range(501))
    (problem,) = problems_of(text, catalog)
    assert problem.message == "must hold at most 500"


def test_a_written_roster_loads_back_equal_and_keeps_text_of_several_lines_readable(catalog: Catalog) -> None:
    roster = parsed(
        agent('persistent_persona: "Calm.\\nBrief.\\n"\n    alias: "yes: no # x"\n    args: ["", "1"]'), catalog
    )
    text = dump_roster(roster)
    assert "persistent_persona: |\n      Calm.\n      Brief.\n" in text
    assert parsed(text, catalog) == roster
    assert parse_roster(dump_roster_json(roster), source="x.json", catalog=catalog).roster == roster


def test_equal_rosters_have_one_normalised_document(catalog: Catalog) -> None:
    short = parsed(f"{HEAD}agents: [{{runtime: pi, name: a}}]", catalog)
    long = parsed(
        f"{HEAD}tenant: default\nfloor:\nagents: [{{name: a, runtime: pi, class: worker, env: {{}}}}]", catalog
    )
    assert short == long
    assert dump_roster_json(short) == dump_roster_json(long)


def test_a_home_has_one_roster_and_json_counts_only_where_yaml_is_absent(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(NotFound) as caught:
        roster_path(home)
    assert caught.value.next_step == "mosaic fleet init"
    home.fleet.mkdir()
    (home.fleet / "roster.json").write_text("{}")
    assert roster_path(home).name == "roster.json"
    (home.fleet / "roster.yaml").write_text("")
    assert roster_path(home).name == "roster.yaml"


def test_a_path_that_is_no_file_is_told(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no roster at"):
        load_roster(tmp_path / "none.yaml", catalog=catalog)
    for path in (tmp_path, tmp_path / "x\0y", tmp_path / ("n" * 300)):
        with pytest.raises(FileUnreadable):
            load_roster(path, catalog=catalog)


def test_a_file_without_an_end_is_refused_and_not_read_whole(catalog: Catalog) -> None:
    with pytest.raises(RosterInvalid, match="not a valid roster"):
        load_roster(Path("/dev/zero"), catalog=catalog)


def test_every_shipped_preset_is_a_valid_roster(catalog: Catalog) -> None:
    presets = catalog.files("presets", ".yaml")
    assert presets
    for file in presets.values():
        read = load_roster(file.path, catalog=catalog)
        assert read.warnings == []
        assert parsed(dump_roster(read.roster), catalog) == read.roster
