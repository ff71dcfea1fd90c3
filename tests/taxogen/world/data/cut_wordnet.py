"""The cut-out of WordNet 3.0 that the tests read: some synsets, all above them, all senses of these words.

    python tests/taxogen/world/data/cut_wordnet.py SOURCE TARGET

Reads: a folder with WordNet 3.0's data.noun and index.noun. Writes: the same format, with new offsets, and
the other files nltk wants, empty but for the licence; lexnames is what its manual page, lexnames(5WN), lists.
"""

import sys
from pathlib import Path

WANTED = """
crow duck eagle penguin bat dog poodle cat carrot:3 pea apple tomato banana:2 pear hammer:2 knife mouse
mouse:4 guitar rose flower car bicycle airplane sword excalibur hat shoe sandal ax dagger church:2 house
cup
"""
ABOVE = ("@", "@i")
LEXNAMES = """
adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body
noun.cognition noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive
noun.object noun.person noun.phenomenon noun.plant noun.possession noun.process noun.quantity
noun.relation noun.shape noun.state noun.substance noun.time verb.body verb.change verb.cognition
verb.communication verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion
verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl
"""
CODES = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}


class Line:
    """One line of data.noun: where it is, its words, its pointers to nouns above and below, its gloss."""

    def __init__(self, text: str):
        fields, self.gloss = text.rstrip("\n").split(" | ", 1)
        parts = fields.split()
        self.head, count = parts[1:3], int(parts[3], 16)
        self.words = parts[4 : 4 + 2 * count]
        rest = parts[5 + 2 * count :]
        pointers = [rest[at : at + 4] for at in range(0, len(rest), 4)]
        self.pointers = [p for p in pointers if p[0] in (*ABOVE, "~", "~i") and p[2] == "n"]

    def write(self, offsets: dict[int, int], here: int) -> str:
        kept = [p for p in self.pointers if int(p[1]) in offsets]
        fields = [f"{offsets[here]:08d}", *self.head, f"{len(self.words) // 2:02x}", *self.words]
        fields.append(f"{len(kept):03d}")
        for symbol, target, part, ends in kept:
            fields += [symbol, f"{offsets[int(target)]:08d}", part, ends]
        return " ".join(fields) + " | " + self.gloss + "\n"


def main(source: Path, target: Path) -> None:
    text = (source / "data.noun").read_bytes().decode()
    header = "".join(line for line in text.splitlines(True)[:40] if line.startswith("  "))
    senses = {}
    for entry in (source / "index.noun").read_text().splitlines():
        if not entry.startswith(" "):
            parts = entry.split()
            senses[parts[0]] = [int(offset) for offset in parts[-int(parts[2]) :]]
    raw = (source / "data.noun").read_bytes()

    def line(offset: int) -> Line:
        return Line(raw[offset : raw.index(b"\n", offset)].decode())

    todo = [senses[word.split(":")[0]][int((word + ":1").split(":")[1]) - 1] for word in WANTED.split()]
    lines: dict[int, Line] = {}
    while todo:
        here = todo.pop()
        if here not in lines:
            lines[here] = line(here)
            todo += [int(p[1]) for p in lines[here].pointers if p[0] in ABOVE]
    words = {found.words[0].lower() for found in lines.values()} | {
        word.split(":")[0] for word in WANTED.split()
    }
    for offset in sorted({offset for word in words for offset in senses[word]} - set(lines)):
        lines[offset] = line(offset)
    offsets = dict.fromkeys(lines, 0)
    at = len(header.encode())
    for here in sorted(lines):
        offsets[here] = at
        at += len(lines[here].write(offsets, here).encode())
    target.mkdir(parents=True, exist_ok=True)
    body = "".join(lines[here].write(offsets, here) for here in sorted(lines))
    (target / "data.noun").write_text(header + body)
    lemmas = {word.lower() for found in lines.values() for word in found.words[::2]}
    index = ""
    for lemma in sorted(lemmas):
        kept = [offset for offset in senses[lemma] if offset in lines]
        listed = " ".join(f"{offsets[offset]:08d}" for offset in kept)
        index += f"{lemma} n {len(kept)} 2 @ ~ {len(kept)} 0 {listed}  \n"
    (target / "index.noun").write_text(header + index)
    for part in ("adj", "adv", "verb"):
        (target / f"data.{part}").write_text(header)
        (target / f"index.{part}").write_text(header)
    for part in ("adj", "adv", "noun", "verb"):
        (target / f"{part}.exc").write_text("")
    rows = [f"{n:02d}\t{name}\t{CODES[name.split('.')[0]]}\n" for n, name in enumerate(LEXNAMES.split())]
    (target / "lexnames").write_text("".join(rows))
    sys.stdout.write(f"{len(lines)} synsets, {len(lemmas)} words\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
