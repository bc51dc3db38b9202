// The row of chips under a prompt: its tags as they are understood and as they will be said, and what is odd about them.
// It mirrors the text and never writes it, but for a correction that is clicked.
(() => {
  const shared = (globalThis.prismNamespaces ??= {});
  const placeOf = (said) => ({
    end: prismSay("said at the end of the prompt"), negative: prismSay("said in the negative prompt"),
    drop: prismSay("not said to this model"),
  })[said?.place];

  // Whether a tag becomes something else; one that is said as it stands needs no second text.
  const changed = ({ namespace, value, said }) =>
    said && said.place !== "drop" && ![value, `${namespace}:${value}`].includes(said.text);

  // A tag in words, for a tooltip.
  const told = (tag) => {
    const { written, value, said } = tag, place = placeOf(said);
    return `${written}:${value}${changed(tag) ? ` → ${said.text}` : ""}${place ? ` (${place})` : ""}`;
  };

  // What an item looks like; the rest is where it stands.
  const looksOf = ({ start, end, core, shell, outer, source, ...looks }) => JSON.stringify(looks);

  class Chips {
    // Calls `select(span)` and `correct(lint)` of `box` when a chip or a correction is clicked.
    constructor(block, box) {
      this.box = box;
      this.row = shared.made("div", { class: "prism-chips", role: "group", "aria-label": prismSay("Tags of this prompt") });
      this.row.hidden = true;
      [this.items, this.looks] = [[], []];
      block.append(this.row);
      this.row.addEventListener("mousedown", (event) => event.preventDefault()); // the text box keeps its focus
    }

    hide() {
      this.draw([], []);
      this.row.hidden = true;
      this.row.style.minHeight = "";
    }

    // Only what is between the first and the last change is made anew: a prompt may have a thousand tags.
    draw(tags, lints) {
      this.items = [...tags, ...lints];
      const { row, looks: old } = this, looks = this.items.map(looksOf);
      let start = 0, kept = 0;
      const rest = Math.min(old.length, looks.length);
      while (start < rest && old[start] === looks[start]) start += 1;
      while (kept < rest - start && old[old.length - 1 - kept] === looks[looks.length - 1 - kept]) kept += 1;
      if (start + kept === Math.max(old.length, looks.length)) return;
      for (let i = old.length - kept; i > start; i -= 1) row.children[i - 1].remove();
      const made = this.items.slice(start, looks.length - kept).map((item) => (item.code ? this.lint(item) : this.chip(item)));
      if (row.children[start]) row.children[start].before(...made); else row.append(...made);
      this.looks = looks;
      row.hidden = false;
      row.style.minHeight = `${Math.ceil(row.getBoundingClientRect().height)}px`; // nothing moves up while one types
    }

    // The item of an element in the row, as it stands by now.
    itemOf(element) { return this.items[[...this.row.children].indexOf(element)]; }

    button(name, title, act, ...children) {
      const button = shared.made("button", { type: "button", class: name, title }, ...children);
      button.addEventListener("click", () => act(this.itemOf(button.closest(".prism-chips > *"))));
      return button;
    }

    chip(tag) {
      const { made } = shared, { said } = tag;
      const parts = [["name", `${tag.negative ? "−" : ""}${tag.namespace}`], ["value", tag.value]];
      if (changed(tag)) parts.push(["said", said.text]);
      const spans = parts.map(([name, text]) => made("span", { class: `prism-chip-${name}` }, text));
      const name = `prism-chip prism-chip-${said?.place ?? "here"}`;
      const chip = this.button(name, told(tag), (item) => this.box.select(item), ...spans);
      if (tag.color) chip.style.setProperty("--prism-color", tag.color);
      return chip;
    }

    lint(lint) {
      const text = this.button("prism-lint-text", prismSay("Show the place"), (item) => this.box.select(item), lint.message);
      const title = lint.fix && prismSay("Write {text}", { text: lint.fix });
      const fix = title && this.button("prism-lint-fix", title, (item) => this.box.correct(item), prismSay("Correct"));
      return shared.made("span", { class: "prism-lint" }, text, ...(fix ? [fix] : []));
    }
  }

  Object.assign(shared, { Chips });
})();
