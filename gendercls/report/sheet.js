"use strict";
// Labels by hand: one photo at a time, in the order of the sheet and without a gap. That order is random, so that what
// is labelled so far is a sample of the same kind as all of it.

const sheet = JSON.parse(document.getElementById("sheet").textContent);
const photos = sheet.photos;
const key = `gendercls sheet ${sheet.digest}`;
const part = Object.fromEntries([...document.querySelectorAll("[id]")].map((found) => [found.id, found]));
const choices = [...part.choices.children];
const given = kept(); // the answer to each photo from the first on, as a number
let at = given.length; // the photo that is shown; their number when all are labelled
let isKept = true; // whether the browser has what was given

function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(key)) || [];
    const isAnswer = (number) => Number.isInteger(number) && number in sheet.answers;
    return found.length <= photos.length && found.every(isAnswer) ? found : [];
  } catch {
    return [];
  }
}

function keep() {
  try {
    localStorage.setItem(key, JSON.stringify(given));
    isKept = true;
  } catch {
    isKept = false;
    say("This browser does not keep your progress: do not close the page before you have saved.");
  }
}

function say(text) {
  part.said.textContent = text;
}

function show() {
  const photo = photos[at];
  const left = photos.length - given.length;
  part.where.textContent = photo
    ? `Photo ${at + 1} of ${photos.length}, ${left} to label`
    : `${photos.length} of ${photos.length} labelled`;
  part.progress.max = photos.length;
  part.progress.value = given.length;
  part.frame.hidden = part.choices.hidden = !photo;
  part.done.hidden = Boolean(photo);
  part.answer.hidden = !photo?.answer;
  if (photo) {
    part.photo.src = photo.picture;
    part.photo.alt = `Photo ${at + 1}`;
    part.answer.textContent = `The model says: ${photo.answer}`;
  }
  choices.forEach((button, number) => button.setAttribute("aria-pressed", String(given[at] === number)));
  part.back.disabled = at === 0;
  part.forward.disabled = at >= given.length;
  if (!photo) part.save.focus();
}

function answer(number) {
  if (at === photos.length) return;
  given[at] = number;
  at += 1;
  say("");
  keep();
  part.how.open = false;
  show();
}

function move(step) {
  const next = at + step;
  if (next < 0 || next > given.length) return;
  at = next;
  say("");
  show();
}

// How many of each stratum are among the first photos.
function counted(first) {
  const counts = sheet.strata.map(() => 0);
  for (const photo of photos.slice(0, first)) counts[photo.stratum] += 1;
  return counts;
}

// How many photos must be labelled before a sheet says anything of all rows: some of each stratum.
function fewest() {
  const all = counted(photos.length);
  const isEnough = (first) => counted(first).every((count, stratum) => count >= Math.min(sheet.least, all[stratum]));
  let first = 1;
  while (!isEnough(first)) first += 1;
  return first;
}

function save() {
  const missing = fewest() - given.length;
  if (missing > 0) {
    say(`Too early: label ${missing} more. Until then some kinds of photos have too few labels to stand for the rest.`);
    return;
  }
  const counts = counted(given.length);
  const lines = given.map((number, row) => {
    const { key, stratum } = photos[row];
    return `${key},${sheet.answers[number]},${sheet.strata[stratum] / counts[stratum]},${stratum + 1}\n`;
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([sheet.header, ...lines], { type: "text/csv" }));
  link.download = sheet.name;
  link.click();
  isKept = true;
  const labels = given.length === photos.length ? "all labels" : `${given.length} of ${photos.length} labels`;
  const weights = given.length === photos.length ? "" : " Their weights count in that the sheet is not finished.";
  say(`Saved ${labels} as ${sheet.name}, where your downloads are.${weights}`);
}

function typed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const button = document.querySelector(`button[aria-keyshortcuts~="${CSS.escape(event.key)}" i]`);
  if (event.repeat && (button || event.key === "Enter" || event.key === " ")) {
    event.preventDefault(); // a key that is held is one answer
    return;
  }
  if (button) {
    event.preventDefault();
    button.click();
  }
}

choices.forEach((button, number) => button.addEventListener("click", () => answer(number)));
part.back.addEventListener("click", () => move(-1));
part.forward.addEventListener("click", () => move(1));
part.save.addEventListener("click", save);
document.addEventListener("keydown", typed);
addEventListener("beforeunload", (event) => {
  if (!isKept) event.preventDefault();
});
part.how.open = given.length === 0;
part.desk.hidden = false;
show();
