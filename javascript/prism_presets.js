// What the small buttons beside a menu of presets do is said here, for the hosts' own have no words; and the form that
// one of them opens takes the keyboard.
(() => {
  const CARDS = '[id*="_prism_cards_"]';
  const tips = (undo = prismSay("Take back the last saving, deleting or import")) => ({
    presets: {
      save: prismSay("Save these settings as a preset of your own"),
      delete: prismSay("Delete the chosen preset; it can be taken back"),
      undo,
      files: prismSay("Import and export presets"),
    },
    cards: {
      save: prismSay("Save what this page has as a card of your own"),
      delete: prismSay("Delete the chosen card; it can be taken back"),
      undo,
      files: prismSay("Import and export cards"),
    },
  });
  let asked = null; // the id of the field that is about to be shown

  const look = () => {
    const { cards, presets } = tips();
    for (const name of Object.keys(presets)) {
      document.querySelectorAll(`button[id*="_prism_"][id$="_preset_${name}"]`).forEach((button) => {
        const tip = (button.matches(CARDS) ? cards : presets)[name];
        if (button.title !== tip) button.title = tip;
        if (button.ariaLabel !== tip) button.ariaLabel = tip;
      });
    }
    const field = asked && document.querySelector(`#${asked} :is(input, textarea)`);
    if (!field?.offsetParent) return;
    asked = null;
    if (document.activeElement.matches("input, textarea")) return; // somebody is typing already, there or elsewhere
    field.focus();
    field.select();
  };
  document.addEventListener("click", (event) => {
    const id = event.target.closest?.('button[id*="_prism_"][id$="_preset_save"]')?.id;
    if (id) asked = id.replace(/_save$/, "_name");
  });
  onAfterUiUpdate(look);
})();
