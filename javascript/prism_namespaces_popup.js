// A list of completions under the caret of a text box, for keyboard, mouse and screen readers.
(() => {
  const shared = (globalThis.prismNamespaces ??= {});
  const MARGIN = 8; // pixels to the window's edge
  const COPIED = [
    "boxSizing", "width", "borderWidth", "borderStyle", "padding", "fontFamily", "fontSize", "fontWeight", "fontStyle",
    "letterSpacing", "wordSpacing", "lineHeight", "textIndent", "textTransform", "tabSize", "direction",
  ];

  // An element; `children` are texts and elements.
  const made = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    element.append(...children);
    return element;
  };
  const short = (count) => (count < 1000 ? String(count) : count < 1e6 ? `${Math.round(count / 1000)}k` : `${Math.round(count / 1e5) / 10}m`);

  // Where the character at `index` stands in the window: the text is laid out once more, unseen, in a copy of the box.
  const caretOf = (box, index) => {
    const copy = made("div"), mark = made("span", {}, "\u200b"), style = getComputedStyle(box);
    COPIED.forEach((name) => { copy.style[name] = style[name]; });
    Object.assign(copy.style, {
      position: "absolute", visibility: "hidden", whiteSpace: "pre-wrap", overflowWrap: "break-word", top: 0, left: 0,
    });
    copy.append(box.value.slice(0, index), mark);
    document.body.append(copy);
    const inside = copy.getBoundingClientRect(), at = mark.getBoundingClientRect(), frame = box.getBoundingClientRect();
    copy.remove();
    return {
      left: frame.left + at.left - inside.left - box.scrollLeft,
      top: frame.top + at.top - inside.top - box.scrollTop,
      bottom: frame.top + at.bottom - inside.top - box.scrollTop,
    };
  };

  class Popup {
    constructor() {
      this.list = made("ul", { id: "prism_namespaces_popup", class: "prism-popup", role: "listbox", "aria-label": prismSay("Completions") });
      this.box = null;
      this.list.addEventListener("mousedown", (event) => { // before the box loses its focus
        event.preventDefault();
        const index = [...this.list.children].indexOf(event.target.closest("li"));
        if (index >= 0) this.choose(index);
      });
    }

    // `entries` ({value, count, alias}) for the word that starts at `index`; `take` gets the chosen one.
    open(box, index, entries, take) {
      if (!entries.length) return this.close();
      if (this.box && this.box !== box) this.close();
      [this.box, this.entries, this.take, this.active] = [box, entries, take, -1];
      this.list.replaceChildren(...entries.map((entry, i) => this.option(entry, i)));
      this.list.style.fontFamily = getComputedStyle(box).fontFamily;
      document.body.append(this.list);
      this.place(caretOf(box, index));
      box.dataset.prismCompletion = "open";
      box.setAttribute("aria-autocomplete", "list");
      box.setAttribute("aria-controls", this.list.id);
      box.removeAttribute("aria-activedescendant");
    }

    option({ value, count, alias }, i) {
      const told = [["value", value], ["alias", alias], ["count", count && short(count)]].filter(([, text]) => text);
      const spans = told.map(([name, text]) => made("span", { class: `prism-popup-${name}` }, text));
      return made("li", { id: `${this.list.id}_${i}`, role: "option", "aria-selected": "false" }, ...spans);
    }

    place({ left, top, bottom }) {
      const { width, height } = this.list.getBoundingClientRect();
      const below = bottom + height + MARGIN <= innerHeight || top < height + MARGIN;
      this.list.style.left = `${Math.max(MARGIN, Math.min(left, innerWidth - width - MARGIN))}px`;
      this.list.style.top = `${below ? bottom + 2 : top - height - 2}px`;
    }

    close() {
      if (!this.box) return;
      delete this.box.dataset.prismCompletion;
      ["aria-autocomplete", "aria-controls", "aria-activedescendant"].forEach((name) => this.box.removeAttribute(name));
      this.box = null;
      this.list.remove();
    }

    choose(index) {
      const { take, entries } = this;
      this.close();
      take(entries[index]);
    }

    move(by) {
      const items = this.list.children, none = this.active < 0;
      items[this.active]?.setAttribute("aria-selected", "false");
      this.active = none && by < 0 ? items.length - 1 : (this.active + by + items.length) % items.length;
      items[this.active].setAttribute("aria-selected", "true");
      items[this.active].scrollIntoView({ block: "nearest" });
      this.box.setAttribute("aria-activedescendant", items[this.active].id);
    }

    // Whether the key was meant for the list. Enter with nothing chosen is the box's own.
    key({ key }) {
      if (key === "ArrowDown") this.move(1);
      else if (key === "ArrowUp") this.move(-1);
      else if (key === "Tab") this.choose(Math.max(this.active, 0));
      else if (key === "Enter" && this.active >= 0) this.choose(this.active);
      else if (key === "Escape") this.close();
      else {
        if (["Enter", "Home", "End", "ArrowLeft", "ArrowRight"].includes(key)) this.close();
        return false;
      }
      return true;
    }
  }

  Object.assign(shared, { Popup, made });
})();
