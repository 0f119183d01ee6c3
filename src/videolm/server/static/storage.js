// Small values that outlive a reload; a browser that forbids storage only forgets them.

function guarded(action, otherwise) {
  try {
    return action();
  } catch {
    return otherwise;
  }
}

export function load(storage, name) {
  return guarded(() => JSON.parse(window[storage].getItem(`videolm.${name}`)), null);
}

export function save(storage, name, value) {
  guarded(() => {
    if (value === null) window[storage].removeItem(`videolm.${name}`);
    else window[storage].setItem(`videolm.${name}`, JSON.stringify(value));
  });
}
