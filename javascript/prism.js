// A text of ours in the page's language, which localizations/ has: {name} in it stands for a value. What others made, and
// errors, stay as they are.
globalThis.prismSay = (text, values = {}) =>
  (globalThis.localization?.[text] ?? text).replace(/\{(\w+)\}/g, (mark, name) => values[name] ?? mark);
