// MathJax, where a page has mathematics
if (document.querySelector(".arithmatex")) {
  window.MathJax = {tex: {inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]]}, options: {ignoreHtmlClass: ".*|", processHtmlClass: "arithmatex"}};
  document.head.append(Object.assign(document.createElement("script"), {src: "https://cdnjs.cloudflare.com/ajax/libs/mathjax/3.2.2/es5/tex-chtml.js"}));
}
