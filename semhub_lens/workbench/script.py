"""A request to an explorer as a script of library calls."""

from semhub_lens.workbench.asked import Asked

PLURAL = {"clean": "cleans", "lens": "lenses"}


def script(asked: Asked, table: bool = False, by_head: bool = True) -> str:
    """A script that makes the same results from `model` (and `table`); `by_head` if attributions include heads."""
    settings = [f"{name}={value!r}" for name, value in asked.reading().items()] + ["table=table"] * table
    call = f"shl.logit_lens({', '.join(['model', 'prompt', *settings])}"
    several = bool(asked.more)
    lines = [
        "import semhub_lens as shl",
        "",
        f"prompts = {asked.prompts()!r}" if several else f"prompt = {asked.prompt!r}",
    ]
    runs = [("clean", ""), ("lens", ", hooks=hooks")] if asked.interventions else [("lens", "")]
    if asked.interventions:
        lines += ["hooks = [", *(f"    *{one.code()}," for one in asked.interventions), "]"]
    for name, hooks in runs:
        many = f"{PLURAL[name]} = [{call}{hooks}) for prompt in prompts]"
        lines.append(many if several else f"{name} = {call}{hooks})")
        lines += _written(asked, name, hooks, by_head)
    names = "names=('clean', 'changed'))"
    if asked.interventions and several:
        lines.append(f"comparisons = [shl.compare(clean, lens, {names} for clean, lens in zip(cleans, lenses)]")
    elif asked.interventions:
        lines.append(f"comparison = shl.compare(clean, lens, {names}")
    elif len(asked.prompts()) == 2:
        lines.append("comparison = shl.compare(*lenses, names=('first', 'second'), align='end')")
    given, end = ("prompts", "texts") if several else ("prompt", "texts[0]")
    for name, hooks in [("", "")] + [("changed_", ", hooks=hooks")] * bool(asked.interventions):
        made = f"shl.generate(model, {given}{hooks}, max_new_tokens={asked.new_tokens}).{end}"
        lines += [f"{name}{'texts' if several else 'text'} = {made}"] * bool(asked.new_tokens)
    return "\n".join(lines) + "\n"


def _written(asked: Asked, name: str, hooks: str, by_head: bool) -> list[str]:
    heads, lines = ", by_head=range(model.cfg.n_layers)" * by_head, []
    for (place, position), tokens in asked.attributed().items():
        lens, prompt = (f"{PLURAL[name]}[{place}]", f"prompts[{place}]") if asked.more else (name, "prompt")
        wrote = f"shl.direct_attribution(model, {prompt}, token={tokens!r}, position={position}{heads}{hooks})"
        lines.append(f"{lens} = {lens}.with_attribution({wrote})")
    return lines
