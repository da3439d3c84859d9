'use strict';
// Every picture is in the page; this only says which one is to be seen.
const PIXELS_A_STEP = 40;
const PIXELS_A_LINE = 16;
for (const slider of document.querySelectorAll('.viewer .slider')) {
  const viewer = slider.closest('.viewer');
  const stage = viewer.querySelector('.stage');
  const words = viewer.querySelector('.words');
  const frames = viewer.querySelectorAll('.frame');
  let shown = Number(slider.value);
  let turned = 0;

  const show = (wanted) => {
    frames[shown].hidden = true;
    frames[wanted].hidden = false;
    shown = wanted;
    slider.value = wanted;
    words.textContent = frames[wanted].getAttribute('aria-label');
    slider.setAttribute('aria-valuetext', words.textContent);
  };

  slider.disabled = false;
  slider.addEventListener('input', () => show(Number(slider.value)));
  // From here on the arrow keys are the slider's.
  stage.addEventListener('click', () => slider.focus());
  // At either end the wheel scrolls the page again.
  stage.addEventListener('wheel', (event) => {
    turned += event.deltaY * (event.deltaMode ? PIXELS_A_LINE : 1);
    const step = Math.sign(turned);
    if (!frames[shown + step]) {
      turned = 0;
      return;
    }
    event.preventDefault();
    if (Math.abs(turned) >= PIXELS_A_STEP) {
      turned = 0;
      show(shown + step);
    }
  }, {passive: false});
}
