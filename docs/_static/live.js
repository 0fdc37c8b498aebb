// Puts the page behind a picture of the class "live" in its place; without scripts the picture stays.
addEventListener("DOMContentLoaded", () => {
  for (const link of document.querySelectorAll("figure.live a[href]:has(img)")) {
    const frame = document.createElement("iframe");
    frame.src = link.href;
    frame.title = link.querySelector("img")?.alt ?? "";
    link.replaceWith(frame);
  }
});
