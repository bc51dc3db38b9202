// Finds the tags in a prompt. The rules and their order are those of lib/sd_prism/namespaces/scanner.py, which explains
// them; remarks come from the server. Positions are UTF-16 units, as in a text box.
(() => {
  const shared = (globalThis.prismNamespaces ??= {});

  // Blanks and letters as Python's regular expressions know them.
  const S = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
  const [W, NO_W] = ["[\\p{L}\\p{N}_]", "[^\\p{L}\\p{N}_]"];
  const KEYWORD = `(?<!${W})(?:AND|BREAK|ADD(?:COMM|BASE|ROW|COL))(?!${W})`;
  const TOKEN = new RegExp(`\\\\.|<${W}+:[^<>]*>|[()[\\]{}|,\\n:：，、（）]|${KEYWORD}`, "gsu");
  const NUMBER = /[ \t-\r]*[+-]?(?:\d+(?:\.\d*)?|\.\d+)[ \t-\r]*/y;
  const RATIO = /\d+(?:\.\d+)?:\d+(?:\.\d+)?(?=[ \t-\r]*(?:[,\n，、|:：)\]}）]|$))/y;
  const BARE = /[ \t-\r]*([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?=[ \t-\r]*(?:[,\n，、|:：)\]}）]|$))/y;
  const QUOTED = new Map(['""', "“”", "「」"].map(([opening, closing]) => (
    [opening, new RegExp(`${opening}([^${closing}\\\\]*(?:\\\\.[^${closing}\\\\]*)*)${closing}`, "sy")]
  )));
  const BLANKS = /[ \t]*/y;
  const SPACE = new RegExp(`[${S}]`, "g");
  const SPACES = new RegExp(`[${S}]+`);
  const ESCAPED = /\\([\\()[\]{}:|"])/g;
  const BEFORE = new RegExp(`[${S}:]*`, "y");
  const AFTER = /[ \t-\r:：\d.+-]*/y;
  const ENDS = new RegExp(`[ \\t]*(?:[,\\n，、]|$|(?:AND|BREAK)(?=${NO_W}|$))`, "yu");
  const FOLDED = new RegExp(`[${S}_-]+`, "g");
  const KINDS = { "\\": "escape", "<": "network", A: "keyword", B: "keyword" };
  const CLOSERS = new Map([[")", "("], ["]", "["], ["}", "{"], ["）", "（"]]);
  const OPENERS = new Set(CLOSERS.values());
  const COLONS = new Set(":：");
  const STOPS = new Set([",", "\n", "，", "、", ...CLOSERS.keys(), "network", "keyword", "|"]);
  const SENTENCE_ENDS = new Set(".!?;");
  const CERTAIN = 5;

  const matchAt = (pattern, text, start) => { pattern.lastIndex = start; return pattern.exec(text); };
  const matchTo = (pattern, text, start, end) => matchAt(pattern, text, start)?.[0].length === end - start;
  const isSpace = (character) => SPACES.test(character);
  const trimEnd = (text, drop = isSpace) => {
    let end = text.length;
    while (end && drop(text[end - 1])) end -= 1;
    return text.slice(0, end);
  };
  const trimStart = (text) => {
    let start = 0;
    while (start < text.length && isSpace(text[start])) start += 1;
    return text.slice(start);
  };
  const trim = (text) => trimStart(trimEnd(text));
  const undashed = (text) => text.replace(/^-+/, "");
  const plain = (text) => text.replace(ESCAPED, "$1");
  const fold = (name) => trim(name).replace(FOLDED, " ").toLowerCase();

  // The registry from the server's answer.
  const registryOf = ({ names, namespaces, chosen, digest }) => {
    const known = Object.keys(names);
    return {
      namespaces, chosen, digest,
      find: (written) => (Object.hasOwn(names, fold(written)) ? names[fold(written)] : null),
      tails: new Set(known.filter((name) => name.includes(" ")).map((name) => name.split(" ").at(-1))),
      words: Math.max(1, ...known.map((name) => name.split(" ").length)),
      longest: Math.max(0, ...known.map((name) => name.length)) + 8,
      takes: (name, number) => {
        const { domain } = namespaces[name];
        return Boolean(domain) && domain[0] <= number && number <= domain[1];
      },
    };
  };

  class Frame {
    constructor(opener, start, first = -1, parent = null) {
      Object.assign(this, { opener, start, first, parent, close: -1, last: -1, colons: [], number: -1, bars: false });
    }

    get scheduled() { return this.opener === "[" && this.number >= 0 && !this.bars; }
  }

  class Scanner {
    constructor(text, registry) {
      Object.assign(this, { text, registry, tokens: [] });
    }

    run() {
      this.structure();
      const tags = [];
      this.tokens.forEach((token, i) => {
        const tag = token.namespace && token.name >= (tags.at(-1)?.end ?? 0) && this.tag(i, token, token.namespace);
        if (tag) tags.push(tag);
      });
      return tags;
    }

    // --- structure: tokens, brackets and names

    structure() {
      const { text, tokens } = this;
      let frame = new Frame("", 0), skip = 0;
      let depth = new Map([...OPENERS].map((opener) => [opener, 0]));
      const deeper = (opener, by) => depth.set(opener, depth.get(opener) + by);
      for (const match of text.matchAll(TOKEN)) {
        const start = match.index, end = start + match[0].length;
        if (start < skip) continue;
        const kind = end - start === 1 ? text[start] : KINDS[text[start]];
        const token = { kind, start, end, frame, inner: null, namespace: null, name: -1, bound: "", given: null };
        if (COLONS.has(kind)) {
          this.name(token);
          frame.colons.push(tokens.length);
          const value = this.afterBlanks(end), quotes = QUOTED.get(text[value]);
          token.given = token.namespace && quotes ? matchAt(quotes, text, value) : null;
          if (token.given) skip = token.given.index + token.given[0].length;
        } else if (OPENERS.has(kind)) {
          frame = token.inner = new Frame(kind, start, tokens.length, frame);
          deeper(kind, 1);
        } else if (depth.get(CLOSERS.get(kind))) {
          let closing = frame;
          while (closing.opener !== CLOSERS.get(kind)) { // what was opened inside is never closed
            deeper(closing.opener, -1);
            closing = closing.parent;
          }
          deeper(closing.opener, -1);
          this.end(closing, start);
          closing.last = tokens.length;
          token.frame = frame = closing.parent;
        } else if (kind === "|") {
          frame.bars = true;
        } else if (match[0] === "\\:" && matchAt(BARE, text, end)) {
          this.name(token);
          token.given = matchAt(BARE, text, end);
          if (token.namespace && this.foreign(token.given[1], token.namespace)) token.namespace = null;
        } else if (kind === "keyword") {
          if (tokens.at(-1)?.end === start && tokens.at(-1).namespace) continue; // a value
          if (match[0] === "AND") {
            token.frame = this.endPart(frame, start);
            frame = new Frame("", end);
            depth = new Map([...OPENERS].map((opener) => [opener, 0]));
          }
        }
        tokens.push(token);
      }
      this.endPart(frame, text.length);
    }

    endPart(frame, end) {
      while (frame.parent) frame = frame.parent;
      this.end(frame, end);
      return frame;
    }

    end(frame, end) {
      frame.close = end;
      const colon = frame.colons.at(-1);
      if (colon !== undefined && matchTo(NUMBER, this.text, this.tokens[colon].end, end)) frame.number = colon;
    }

    afterBlanks(start) { return start + matchAt(BLANKS, this.text, start)[0].length; }

    // Looks for a registered name that ends at a colon.
    name(token) {
      const { registry } = this, last = this.tokens.at(-1);
      const low = Math.max(last?.end ?? 0, token.start - registry.longest);
      const window = this.text.slice(low, token.start);
      const words = window.split(SPACES).filter(Boolean).slice(-registry.words);
      if (!words.length || isSpace(window.at(-1))) return;
      const word = undashed(words.at(-1));
      let start = token.start - word.length, namespace = registry.find(word);
      for (let count = 2; registry.tails.has(fold(word)) && count <= words.length; count += 1) {
        const longer = registry.find(undashed(words.slice(-count).join(" ")));
        if (longer) [namespace, start] = [longer, low + startOf(words.slice(-count), window)];
      }
      const bound = namespace && this.bound(start, last);
      if (bound) Object.assign(token, { namespace, name: start, bound });
    }

    bound(start, last) {
      const { text } = this, low = last?.end ?? 0;
      const minus = start > low && text[start - 1] === "-";
      if (minus) start -= 1;
      const edge = start === low;
      if (!edge && !isSpace(text[start - 1])) return "";
      const inline = minus || edge ? "" : "blank";
      if (trim(text.slice(low, start)) || last?.kind === "escape") return inline;
      if (COLONS.has(last?.kind)) return last.frame.opener === "[" && !minus ? "colon" : inline;
      return minus ? "minus" : "start";
    }

    // --- tags

    // The tag whose colon is token `i`. Beside what Python's has: `core`, the span that a weight is for, and `shell`,
    // that of the brackets which hold nothing else.
    tag(i, token, namespace) {
      if (token.bound === "colon" && !token.frame.scheduled) return null;
      const value = token.given ? this.given(token) : this.value(i, token, namespace);
      if (!value) return null;
      const { text } = this, negative = token.bound === "minus";
      let start = token.name - negative, { end, opens = "", closes = "" } = value, { frame } = token;
      const core = value.core ?? [start, end];
      while (frame.opener === "（" && this.alone(frame, start, end)) {
        const weight = trim(text.slice(end, frame.close).replaceAll("：", ":"));
        [opens, closes] = [`(${opens}`, `${closes}${weight})`];
        [start, end, frame] = [frame.start, frame.close + 1, frame.parent];
      }
      let outer = [start, end];
      for (; frame.parent && this.alone(frame, ...outer); frame = frame.parent) outer = [frame.start, frame.close + 1];
      if (negative && (frame.opener || !matchAt(ENDS, text, outer[1]))) return null;
      return {
        start, end, namespace, written: text.slice(token.name, token.start), value: value.text, negative,
        quoted: Boolean(token.given) && token.kind !== "escape", inline: token.bound === "blank", opens, closes, outer,
        core, shell: value.shell ?? outer,
      };
    }

    alone(frame, start, end) {
      if (frame.close < 0 || frame.bars || !matchTo(BEFORE, this.text, frame.start + 1, start)) return false;
      return matchTo(AFTER, this.text, end, frame.close);
    }

    given({ given }) {
      const text = trim(plain(given[1]));
      return text ? { end: given.index + given[0].length, text } : null;
    }

    value(i, token, namespace) {
      const { text, registry } = this, { frame } = token;
      const rules = registry.namespaces[namespace];
      const start = this.afterBlanks(token.end), inline = token.bound === "blank";
      if (inline && start > token.end) return null;
      if (frame.number === i) return this.lastNumber(token, namespace, start);
      const ratio = rules.ratio && matchAt(RATIO, text, start);
      if (ratio) return { end: start + ratio[0].length, text: ratio[0] };
      if (frame.scheduled && frame.colons.length === 2 && !registry.chosen) return null;
      const opener = this.openerAt(i + 1, start);
      if (opener && "([".includes(opener.opener) && !literal(rules, opener, true)) return this.wrapped(opener, namespace);
      return this.plainValue(i, start, namespace, inline);
    }

    plainValue(i, start, namespace, inline) {
      let raw = trimEnd(this.text.slice(start, this.endOfValue(i, start, this.registry.namespaces[namespace], inline)));
      if (inline) raw = trimEnd(raw, (character) => SENTENCE_ENDS.has(character));
      const value = inline ? trim(plain(raw).replaceAll("_", " ")) : plain(raw);
      if (!value || COLONS.has(raw[0]) || this.foreign(raw, namespace)) return null;
      return { end: start + raw.length, text: value };
    }

    // Whether a number is none of the namespace's values.
    foreign(raw, namespace) {
      return matchTo(NUMBER, raw, 0, raw.length) && !this.registry.takes(namespace, Number(raw));
    }

    lastNumber(token, namespace, start) {
      const text = trim(this.text.slice(start, token.frame.close));
      return this.isLastNumber(token) ? { end: start + text.length, text } : null;
    }

    // Whether a number that ends a frame is the value of the name before it.
    isLastNumber({ namespace, end, frame }) {
      const text = trim(this.text.slice(end, frame.close));
      return !this.foreign(text, namespace) && (!frame.opener || Math.abs(Number(text)) > CERTAIN);
    }

    openerAt(i, start) {
      const token = this.tokens[i];
      return token?.start === start && token.inner?.close >= 0 ? token.inner : null;
    }

    // A value in brackets of its own, as in `species:(seal:1.2)`: their weight is the tag's.
    wrapped(opener, namespace) {
      const { text, tokens } = this;
      let frame = opener, inside = null;
      while ((inside = this.openerAt(frame.first + 1, this.afterBlanks(frame.start + 1)))) {
        if (!"([".includes(inside.opener) || !this.alone(frame, inside.start, inside.close + 1)) return null;
        frame = inside;
      }
      const low = frame.start + 1, high = frame.number >= 0 ? tokens[frame.number].start : frame.close;
      for (let i = frame.first + 1; i < frame.last; i += 1) {
        if (tokens[i].kind !== "escape" && tokens[i].end <= high) return null;
      }
      const raw = trim(text.slice(low, high)), end = opener.close + 1;
      if (!raw || this.foreign(raw, namespace)) return null;
      const from = high - trimStart(text.slice(low, high)).length;
      return {
        end, text: plain(raw), opens: text.slice(opener.start, low), closes: text.slice(high, end),
        core: [from, from + raw.length], shell: [opener.start, end],
      };
    }

    // Whether colon `j`, of a name after a blank, ends the value before it.
    startsTag(j, token) {
      const { text, tokens } = this;
      if (token.end === text.length || isSpace(text[token.end])) return false;
      if (token.frame.number === j) return this.isLastNumber(token);
      return !token.frame.scheduled || tokens[j + 1]?.bound !== "colon";
    }

    endOfValue(i, start, rules, inline) {
      const { text, tokens } = this, { frame } = tokens[i];
      let limit = frame.close >= 0 ? frame.close : text.length;
      if (inline) limit = Math.min(limit, matchAt(SPACE, text, start)?.index ?? limit);
      for (let j = i + 1; j < tokens.length && tokens[j].start < limit; j += 1) {
        const token = tokens[j], { inner } = token;
        if (STOPS.has(token.kind)) return token.start;
        if (COLONS.has(token.kind)) {
          if (token.bound === "blank" && token.name > start && this.startsTag(j, token)) return token.name;
          if (j === frame.number || frame.scheduled) return token.start;
        }
        if (inner) {
          if (inner.close < 0 || inner.close >= limit || !literal(rules, inner, token.start === start)) return token.start;
          j = inner.last;
        }
      }
      return limit;
    }
  }

  // Whether brackets inside a value are part of it.
  const literal = ({ parens, brackets }, frame, atStart) => {
    if (frame.opener === "[") return brackets === "literal";
    return frame.opener === "{" || (parens === "literal" && frame.number < 0 && !atStart);
  };

  const startOf = (words, window) => {
    let at = window.length;
    for (const word of [...words].reverse()) at = window.lastIndexOf(word, at - word.length);
    return at + words[0].length - undashed(words[0]).length;
  };

  const hasColon = (text) => text.includes(":") || text.includes("：");

  // The tags of a text, disjoint and in order.
  const scan = (text, registry) => (hasColon(text) ? new Scanner(text, registry).run() : []);

  Object.assign(shared, { registryOf, scan, hasColon });
  if (typeof module !== "undefined") module.exports = { registryOf, scan };
})();
