// Ctrl+Up and Ctrl+Down in a tag weight the tag as a whole; the arithmetic is the host's.
(() => {
  const shared = (globalThis.prismNamespaces ??= {});
  const EMPHASIS = 1.1; // of a bracket without a number
  const WEIGHT = /^\s*:\s*([+-]?[\d.]+)\s*\)/;

  const narrow = (text) => text.replaceAll("（", "(").replaceAll("）", ")").replaceAll("：", ":");
  const round = (weight) => Number(weight.toPrecision(12));
  const print = (weight) => (Number.isInteger(weight) ? `${weight}.0` : String(weight));

  // The innermost brackets around a tag: how much of the text on its left and right they take, and their weight.
  const innermost = (left, right, step) => {
    const number = /\(\s*$/.test(left) && right.match(WEIGHT);
    if (number) return { opens: left.length - left.lastIndexOf("("), closes: number[0].length, weight: Number(number[1]) };
    for (const [opening, closing, plain] of [[/\(+\s*$/, /^\s*\)+/, EMPHASIS], [/\[+\s*$/, /^\s*\]+/, 1 / EMPHASIS]]) {
      const opens = left.match(opening)?.[0], closes = right.match(closing)?.[0];
      if (!opens || !closes) continue;
      const pairs = Math.min(opens.trim().length, closes.trim().length);
      return {
        opens: opens.length - opens.trim().length + pairs,
        closes: closes.length - closes.trim().length + pairs,
        weight: Math.round(plain ** pairs / step) * step,
      };
    }
    return { opens: 0, closes: 0, weight: 1 };
  };

  // The tag that a selection lies in; brackets and weight around a tag belong to it.
  const tagAt = (tags, from, to) => tags.find(({ start, end, outer }) =>
    (start <= from && to <= end) || (outer[0] < from && to < outer[1]));

  // Text and selection after one step; null where the caret is in no tag, or the weight is no number.
  const weigh = (text, tags, from, to, step) => {
    const tag = tagAt(tags, from, to);
    if (!tag) return null;
    const [start, end] = tag.core;
    const around = innermost(narrow(text.slice(tag.shell[0], start)), narrow(text.slice(end, tag.shell[1])), Math.abs(step));
    const weight = round(around.weight + step);
    if (!Number.isFinite(weight)) return null;
    const [opens, closes] = weight === 1 ? ["", ""] : ["(", `:${print(weight)})`];
    const core = text.slice(start, end);
    const before = text.slice(0, start - around.opens) + opens;
    const moved = (at) => before.length + Math.min(Math.max(at, start), end) - start;
    return { text: before + core + closes + text.slice(end + around.closes), from: moved(from), to: moved(to) };
  };

  Object.assign(shared, { weigh, tagAt });
  if (typeof module !== "undefined") module.exports = { weigh, tagAt };
})();
